package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The commands about users and roles have etcdctl's words, flags and output. Passwords are on no command line.

func (a *app) userCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "user",
		Short: "Make, change and show users",
		Long: `Users have roles, and roles have permissions. They count as soon as authentication is
enabled (quorate auth enable); the user root, with the role root, may do everything.`,
		Example: `  quorate user add alice                       # asks for a password
  quorate user grant-role alice app
  quorate user list --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(a.userAddCommand(), a.userDeleteCommand(), a.userGetCommand(), a.userListCommand(), a.userPasswordCommand(),
		a.userRoleCommand("grant-role", "Give a role to a user", "Role %s is granted to user %s\n",
			func(ctx context.Context, c *clientv3.Client, user, role string) (any, error) {
				return c.UserGrantRole(ctx, user, role)
			}),
		a.userRoleCommand("revoke-role", "Take a role from a user", "Role %s is revoked from user %s\n",
			func(ctx context.Context, c *clientv3.Client, user, role string) (any, error) {
				return c.UserRevokeRole(ctx, user, role)
			}))
	return command
}

func (a *app) userAddCommand() *cobra.Command {
	var f newPasswordFlags
	without := false
	command := &cobra.Command{
		Use:   "add USER",
		Short: "Make a user",
		Long: `Makes a user, and asks for the password twice, without showing it. Scripts give it in a
file, or on standard input: a password on the command line is seen by everybody on the
machine, and stays in the history of the shell. A user without a password logs in by a
certificate, or by a JSON web token.`,
		Example: `  quorate user add alice
  quorate user add alice --new-password-file alice.txt
  pass show alice | quorate user add alice --interactive=false
  quorate user add node --no-password`,
		Args: cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			name, password := arguments[0], ""
			if user, _, both := strings.Cut(name, ":"); both && !without {
				return usagef("%s:...: a password on the command line can be seen by others; give the name alone, and the password at the prompt or in --new-password-file", user)
			}
			if without && (f.file != "" || !f.interactive) {
				return usagef("--no-password is of a user without a password: leave --new-password-file and --interactive out")
			}
			if !without {
				var err error
				if password, err = f.read(ctx, a, name); err != nil {
					return err
				}
			}
			return a.administer(ctx, "user add", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.UserAddWithOptions(ctx, name, password, &clientv3.UserAddOptions{NoPassword: without})
				return answer, fmt.Sprintf("User %s created\n", name), err
			})
		}),
	}
	f.add(command)
	command.Flags().BoolVar(&without, "no-password", false, "a user without a password, who shows a certificate or a JSON web token")
	return command
}

func (a *app) userPasswordCommand() *cobra.Command {
	var f newPasswordFlags
	command := &cobra.Command{
		Use:     "passwd USER",
		Short:   "Change a user's password",
		Long:    "Changes a user's password; it is given as to quorate user add. What was logged in by the old one has to log in again.",
		Example: "  quorate user passwd alice\n  quorate user passwd alice --new-password-file alice.txt",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			password, err := f.read(ctx, a, arguments[0])
			if err != nil {
				return err
			}
			return a.administer(ctx, "user passwd", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.UserChangePassword(ctx, arguments[0], password)
				return answer, "Password updated\n", err
			})
		}),
	}
	f.add(command)
	return command
}

func (a *app) userDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete USER",
		Short:   "Remove a user",
		Example: "  quorate user delete alice",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.administer(ctx, "user delete", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.UserDelete(ctx, arguments[0])
				return answer, fmt.Sprintf("User %s deleted\n", arguments[0]), err
			})
		}),
	}
}

func (a *app) userListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all users",
		Example: "  quorate user list",
		Args:    cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			return a.administer(ctx, "user list", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.UserList(ctx)
				if err != nil {
					return nil, "", err
				}
				return answer, oneInALine(answer.Users), nil
			})
		}),
	}
}

// oneInALine writes each name in a line of its own.
func oneInALine(names []string) string {
	var shown strings.Builder
	for _, name := range names {
		shown.WriteString(name + "\n")
	}
	return shown.String()
}

func (a *app) userGetCommand() *cobra.Command {
	detail := false
	command := &cobra.Command{
		Use:     "get USER",
		Short:   "Show a user's roles",
		Example: "  quorate user get alice\n  quorate user get alice --detail",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.administer(ctx, "user get", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				return a.userGet(ctx, client, arguments[0], detail)
			})
		}),
	}
	command.Flags().BoolVar(&detail, "detail", false, "show the permissions of the roles, too")
	return command
}

func (a *app) userGet(ctx context.Context, client *clientv3.Client, name string, detail bool) (any, string, error) {
	answer, err := client.UserGet(ctx, name)
	switch {
	case err != nil:
		return nil, "", err
	case !detail:
		return answer, fmt.Sprintf("User: %s\nRoles:%s\n", name, strings.Join(append([]string{""}, answer.Roles...), " ")), nil
	}
	shown, roles := fmt.Sprintf("User: %s\n", name), map[string]any{}
	for _, role := range answer.Roles {
		r, err := client.RoleGet(ctx, role)
		if err != nil {
			return nil, "", err
		}
		shown += "\n" + a.roleText(role, r)
		roles[role] = r
	}
	return map[string]any{"user": answer, "roles": roles}, shown, nil
}

func (a *app) userRoleCommand(verb, short, done string, ask func(ctx context.Context, client *clientv3.Client, user, role string) (any, error)) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " USER ROLE",
		Short:   short,
		Example: "  quorate user " + verb + " alice app",
		Args:    cobra.ExactArgs(2),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			user, role := arguments[0], arguments[1]
			return a.administer(ctx, "user "+verb, func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := ask(ctx, client, user, role)
				return answer, fmt.Sprintf(done, role, user), err
			})
		}),
	}
}
