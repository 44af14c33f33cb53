package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/server"
)

func (a *app) versionCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this program",
		Example: "  quorate version\n  quorate version --output json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			a.running = true
			if a.json() {
				return writeJSON(a.stdout, versionJSON{server.EtcdVersion, server.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
			}
			return printVersion(a.stdout)
		},
	}
	a.addOutputFlag(command)
	return command
}

type versionJSON struct {
	Etcd    string `json:"etcd_version"` // whose behaviour the API has
	Quorate string `json:"quorate_version"`
	Go      string `json:"go_version"`
	System  string `json:"os"`
	Machine string `json:"arch"`
}

// printVersion writes etcd's lines first, in etcd's form, for scripts that read them.
func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "etcd Version: %s\nQuorate Version: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		server.EtcdVersion, server.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
