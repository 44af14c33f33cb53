package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from the file\r\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		flags          userFlags
		environment    []string
		user, password string
		usage          bool
	}{
		"nobody":                           {},
		"a file":                           {flags: userFlags{name: "u", passwordFile: file}, user: "u", password: "from the file"},
		"the environment":                  {flags: userFlags{name: "u"}, environment: []string{"QUORATE_PASSWORD=p"}, user: "u", password: "p"},
		"etcdctl's environment":            {flags: userFlags{name: "u"}, environment: []string{"ETCDCTL_PASSWORD=p"}, user: "u", password: "p"},
		"both in etcdctl's environment":    {flags: userFlags{name: "u:p:q"}, environment: []string{"ETCDCTL_USER=u:p:q"}, user: "u", password: "p:q"},
		"a password on the command line":   {flags: userFlags{name: "u:p"}, usage: true},
		"no password":                      {flags: userFlags{name: "u"}, usage: true},
		"a file that is not there is said": {flags: userFlags{name: "u", passwordFile: file + "x"}},
	} {
		a := &app{stdin: strings.NewReader(""), user: c.flags, environment: c.environment}
		user, password, err := a.login(t.Context())
		var usage usageError
		if user != c.user || password != c.password || errors.As(err, &usage) != c.usage || c.flags.name != "" && c.user == "" && err == nil {
			t.Errorf("%s: %q, %q, %v", what, user, password, err)
		}
	}
}
