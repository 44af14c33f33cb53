package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/server"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this program",
		Example: "  quorate version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.running = true
			return printVersion(a.stdout)
		},
	}
}

// printVersion writes etcd's lines first, in etcd's form, for scripts that read them.
func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "etcd Version: %s\nQuorate Version: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		server.EtcdVersion, server.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
