package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// userFlags say as whom a client command asks. The first is etcdctl's.
type userFlags struct{ name, passwordFile string }

func (a *app) addUserFlags(command *cobra.Command) {
	flags := command.PersistentFlags()
	flags.StringVar(&a.user.name, "user", a.fromEnvironment("USER"), "user to log in as, if users have to log in")
	flags.StringVar(&a.user.passwordFile, "password-file", a.fromEnvironment("PASSWORD_FILE"), "file with the user's password in its first line; otherwise it is QUORATE_PASSWORD or ETCDCTL_PASSWORD of the environment")
}

// login returns the user and the password of the command line; nothing if there is no user. etcdctl's --user=NAME:PASSWORD is refused: a password on the
// command line is in the history of the shell, and everybody on the machine sees it.
func (a *app) login() (user, password string, err error) {
	name := a.user.name
	given, secret, both := strings.Cut(name, ":")
	switch {
	case name == "":
		return "", "", nil
	case both && a.getenv("ETCDCTL_USER") == name: // as etcdctl takes it, and on no command line
		return given, secret, nil
	case both:
		return "", "", usagef("--user=%s:...: a password on the command line can be seen by others; give --password-file, or QUORATE_PASSWORD in the environment", given)
	case a.user.passwordFile != "":
		text, err := os.ReadFile(a.user.passwordFile)
		if err != nil {
			return "", "", fmt.Errorf("read --password-file: %w", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		return name, strings.TrimSuffix(line, "\r"), nil
	}
	if password = a.fromEnvironment("PASSWORD"); password == "" {
		return "", "", usagef("--user=%s needs a password: give --password-file, or QUORATE_PASSWORD in the environment", name)
	}
	return name, password, nil
}
