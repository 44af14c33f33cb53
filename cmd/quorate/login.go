package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// userFlags say as whom a client command asks. The first is etcdctl's.
type userFlags struct {
	name, passwordFile, tokenFile string
	prefix                        string // of the names of the flags
}

func (u *userFlags) flag(name string) string { return "--" + u.prefix + name }

// identity is who asks: a user with a password, or who has a token. Without either, nobody.
type identity struct{ user, password, token string }

func (a *app) addUserFlags(command *cobra.Command) {
	flags := command.PersistentFlags()
	flags.StringVar(&a.user.name, "user", a.fromEnvironment("USER"), "user to log in as, if users have to log in")
	flags.StringVar(&a.user.passwordFile, "password-file", a.fromEnvironment("PASSWORD_FILE"),
		"file with the user's password in its first line; otherwise it is QUORATE_PASSWORD or ETCDCTL_PASSWORD of the environment, or asked for at a terminal")
	flags.StringVar(&a.user.tokenFile, "token-file", a.fromEnvironment("TOKEN_FILE"),
		"file with a JSON web token in its first line, instead of a user; otherwise it is QUORATE_AUTH_JWT_TOKEN or ETCDCTL_AUTH_JWT_TOKEN of the environment")
}

// logIn finds out who asks, before anything is asked. etcdctl's --user=NAME:PASSWORD is refused: a password on the command line is in the history of the
// shell, and everybody on the machine sees it.
func (a *app) logIn(ctx context.Context) (err error) {
	if a.identity.token, err = a.token(); err != nil || a.identity.token != "" {
		return err
	}
	a.identity.user, a.identity.password, err = a.login(ctx)
	return err
}

// token is the JSON web token that was given; "": none.
func (a *app) token() (string, error) {
	token := a.fromEnvironment("AUTH_JWT_TOKEN")
	if a.user.tokenFile != "" {
		var err error
		if token, err = secretIn(a.user.flag("token-file"), a.user.tokenFile); err != nil {
			return "", err
		}
	}
	if token != "" && a.user.name != "" {
		return "", usagef("%s=%s and a token are given: it is one or the other", a.user.flag("user"), a.user.name)
	}
	return token, nil
}

// secretIn reads a secret from a file.
func secretIn(flag, name string) (string, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", flag, err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", usagef("%s=%s: its first line is empty", flag, name)
	}
	return line, nil
}

// login returns the user and the password of the command line; nothing if there is no user.
func (a *app) login(ctx context.Context) (user, password string, err error) {
	name := a.user.name
	given, secret, both := strings.Cut(name, ":")
	switch {
	case name == "":
		return "", "", nil
	case both && a.getenv("ETCDCTL_USER") == name: // as etcdctl takes it, and on no command line
		return given, secret, nil
	case both:
		return "", "", usagef("%s=%s:...: a password on the command line can be seen by others; give %s, or QUORATE_PASSWORD in the environment",
			a.user.flag("user"), given, a.user.flag("password-file"))
	case a.user.passwordFile != "":
		if password, err = secretIn(a.user.flag("password-file"), a.user.passwordFile); err != nil {
			return "", "", err
		}
		return name, password, nil
	}
	if password = a.fromEnvironment("PASSWORD"); password == "" {
		if !isTerminal(a.stdin) {
			return "", "", usagef("%s=%s needs a password: give %s, or QUORATE_PASSWORD in the environment", a.user.flag("user"), name, a.user.flag("password-file"))
		}
		if password, err = a.askPassword(ctx, "Password of "+name+": "); err != nil {
			return "", "", err
		}
		if password == "" {
			return "", "", usagef("the password is empty")
		}
	}
	return name, password, nil
}

// askPassword asks at the terminal, and does not show what is typed.
func (a *app) askPassword(ctx context.Context, prompt string) (string, error) {
	terminal := int(a.stdin.(*os.File).Fd())
	before, err := term.GetState(terminal)
	if err != nil {
		return "", fmt.Errorf("ask for a password: %w", err)
	}
	fmt.Fprint(a.stderr, prompt)
	typed, err := untilInterrupted(ctx, func() ([]byte, error) { return term.ReadPassword(terminal) })
	fmt.Fprintln(a.stderr)
	switch {
	case errors.Is(err, errInterruptedInput): // the reader is left behind, and with it a terminal that shows nothing
		return "", errors.Join(err, term.Restore(terminal, before))
	case errors.Is(err, io.EOF):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("ask for a password: %w", err)
	}
	return string(typed), nil
}

// newPasswordFlags say where a user's new password comes from.
type newPasswordFlags struct {
	interactive bool
	file        string
}

func (f *newPasswordFlags) add(command *cobra.Command) {
	command.Flags().BoolVar(&f.interactive, "interactive", true, "ask for the password at a terminal; with =false it is the first line of standard input")
	command.Flags().StringVar(&f.file, "new-password-file", "", "file with the new password in its first line")
}

// read gives a user's new password, which is not empty.
func (f *newPasswordFlags) read(ctx context.Context, a *app, name string) (string, error) {
	switch {
	case f.file != "" && !f.interactive:
		return "", usagef("--new-password-file and --interactive=false are both given: the password is in the file, or on standard input")
	case f.file != "":
		return secretIn("--new-password-file", f.file)
	case a.user.passwordFile != "" && a.user.name == "":
		return "", usagef("--password-file is of the user who asks (--user); the new password of %s is given in --new-password-file", name)
	case !f.interactive:
		line, err := untilInterrupted(ctx, func() (string, error) {
			return bufio.NewReader(io.LimitReader(a.stdin, maxPasswordBytes)).ReadString('\n')
		})
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password from standard input: %w", err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", usagef("standard input has no password in its first line")
		}
		return line, nil
	case !isTerminal(a.stdin):
		return "", usagef("the password of %s is asked for at a terminal, and standard input is none: give --new-password-file, or --interactive=false to read it from there", name)
	}
	first, err := a.askPassword(ctx, "New password of "+name+": ")
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", usagef("the password is empty")
	}
	again, err := a.askPassword(ctx, "The same again: ")
	if err == nil && again != first {
		err = usagef("the two passwords differ; nothing was changed")
	}
	return first, err
}

// maxPasswordBytes is more than any password that a node takes (72 bytes).
const maxPasswordBytes = 4096
