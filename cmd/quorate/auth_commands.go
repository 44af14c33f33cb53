package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// rootRole may do everything.
const rootRole = "root"

// administer makes a request about users or roles, and writes what etcdctl does: the answer as JSON, or the text.
func (a *app) administer(ctx context.Context, what string, ask func(context.Context, *clientv3.Client) (answer any, shown string, err error)) error {
	return a.request(ctx, what, func(ctx context.Context, client *clientv3.Client) error {
		answer, shown, err := ask(ctx, client)
		switch {
		case errors.Is(err, rpctypes.ErrUserNotFound):
			return &notFoundError{what + ": there is no such user; `quorate user list` shows all"}
		case errors.Is(err, rpctypes.ErrRoleNotFound):
			return &notFoundError{what + ": there is no such role; `quorate role list` shows all"}
		case err != nil:
			return err
		case a.json():
			return writeJSON(a.stdout, answer)
		}
		_, err = io.WriteString(a.stdout, shown)
		return err
	})
}

func (a *app) authCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "auth",
		Short: "Turn authentication on and off",
		Long:  "With authentication on, every request needs a user: --user with a password, a certificate's common name, or a token.",
		Example: `  quorate user add root && quorate user grant-role root root
  quorate auth enable
  quorate auth status`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(
		a.authChangeCommand("enable", "Ask for users from now on", "There must be a user root; it gets the role root, if it does not have it.", enableAuth),
		a.authChangeCommand("disable", "Let everybody do everything", "Users and roles stay, and count again when it is enabled.",
			func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.AuthDisable(ctx)
				return answer, "Authentication Disabled\n", err
			}),
		a.authChangeCommand("status", "Tell whether authentication is on", "The revision counts the changes of users and roles.",
			func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.AuthStatus(ctx)
				if err != nil {
					return nil, "", err
				}
				return answer, fmt.Sprintf("Authentication Status: %v\nAuthRevision: %d\n", answer.Enabled, answer.AuthRevision), nil
			}))
	return command
}

func (a *app) authChangeCommand(verb, short, long string, ask func(context.Context, *clientv3.Client) (any, string, error)) *cobra.Command {
	return &cobra.Command{
		Use:     verb,
		Short:   short,
		Long:    long,
		Example: "  quorate auth " + verb,
		Args:    cobra.NoArgs,
		RunE:    a.command(func(ctx context.Context, _ []string) error { return a.administer(ctx, "auth "+verb, ask) }),
	}
}

// enableAuth gives root its role if that is all that is missing, as etcdctl does.
func enableAuth(ctx context.Context, client *clientv3.Client) (any, string, error) {
	answer, err := client.AuthEnable(ctx)
	if errors.Is(err, rpctypes.ErrRootRoleNotExist) {
		if _, err := client.RoleAdd(ctx, rootRole); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
			return nil, "", err
		}
		if _, err := client.UserGrantRole(ctx, rootRole, rootRole); err != nil {
			return nil, "", err
		}
		answer, err = client.AuthEnable(ctx)
	}
	return answer, "Authentication Enabled\n", err
}
