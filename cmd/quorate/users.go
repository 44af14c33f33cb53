package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The commands about users and roles have etcdctl's words, flags and output. Passwords are on no command line.

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

func (a *app) roleCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "role",
		Short: "Make, change and show roles",
		Long: `A role has permissions: to read keys, to write them, or both. Users have roles (quorate user
grant-role). The role root, which is always there, may do everything.`,
		Example: `  quorate role add app
  quorate role grant-permission app readwrite app/ --prefix
  quorate role get app`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(
		a.roleChangeCommand("add", "Make a role", "Role %s created\n",
			func(ctx context.Context, c *clientv3.Client, role string) (any, error) { return c.RoleAdd(ctx, role) }),
		a.roleChangeCommand("delete", "Remove a role, from those who have it, too", "Role %s deleted\n",
			func(ctx context.Context, c *clientv3.Client, role string) (any, error) {
				return c.RoleDelete(ctx, role)
			}),
		a.roleGetCommand(), a.roleListCommand(), a.roleGrantCommand(), a.roleRevokeCommand())
	return command
}

func (a *app) roleChangeCommand(verb, short, done string, ask func(ctx context.Context, client *clientv3.Client, role string) (any, error)) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " ROLE",
		Short:   short,
		Example: "  quorate role " + verb + " app",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.administer(ctx, "role "+verb, func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := ask(ctx, client, arguments[0])
				return answer, fmt.Sprintf(done, arguments[0]), err
			})
		}),
	}
}

func (a *app) roleGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "get ROLE",
		Short:   "Show a role's permissions",
		Example: "  quorate role get app",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.administer(ctx, "role get", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.RoleGet(ctx, arguments[0])
				if err != nil {
					return nil, "", err
				}
				return answer, a.roleText(arguments[0], answer), nil
			})
		}),
	}
}

// roleText shows a role's permissions as etcdctl does.
func (a *app) roleText(role string, answer *clientv3.AuthRoleGetResponse) string {
	permissions := answer.Perm
	if role == rootRole && len(permissions) == 0 {
		permissions = []*authpb.Permission{{PermType: authpb.READWRITE, RangeEnd: []byte{0}}}
	}
	var shown strings.Builder
	shown.WriteString("Role " + role + "\n")
	for _, right := range []struct {
		title  string
		others authpb.Permission_Type // permissions that have not this right
	}{{"KV Read:", authpb.WRITE}, {"KV Write:", authpb.READ}} {
		shown.WriteString(right.title + "\n")
		for _, p := range permissions {
			if p.PermType != right.others {
				shown.WriteString("\t" + a.spanText(p.Key, p.RangeEnd, true) + "\n")
			}
		}
	}
	return shown.String()
}

// spanText shows keys as etcdctl does; with a word for a prefix, if that is wanted.
func (a *app) spanText(key, end []byte, prefix bool) string {
	start := ""
	if len(key) > 0 {
		start = text(key, a.hex)
	}
	switch {
	case len(end) == 0:
		return start
	case string(end) == "\x00":
		return "[" + start + ", <open ended>"
	case prefix && clientv3.GetPrefixRangeEnd(string(key)) == string(end):
		return fmt.Sprintf("[%s, %s) (prefix %s)", start, text(end, a.hex), start)
	}
	return fmt.Sprintf("[%s, %s)", start, text(end, a.hex))
}

func (a *app) roleListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all roles",
		Example: "  quorate role list",
		Args:    cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			return a.administer(ctx, "role list", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.RoleList(ctx)
				if err != nil {
					return nil, "", err
				}
				return answer, oneInALine(answer.Roles), nil
			})
		}),
	}
}

func (a *app) roleGrantCommand() *cobra.Command {
	var f spanFlags
	command := &cobra.Command{
		Use:   "grant-permission ROLE TYPE KEY [END]",
		Short: "Give a role the right to keys",
		Long:  "Gives a role the right to read, to write, or both (TYPE is read, write or readwrite): one key, all from KEY on before END, or what the flags say.",
		Example: `  quorate role grant-permission app readwrite app/ --prefix
  quorate role grant-permission app read config/shared
  quorate role grant-permission all read "" --prefix`,
		Args: cobra.RangeArgs(3, 4),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			permission, err := clientv3.StrToPermissionType(arguments[1])
			if err != nil {
				return usagef("%q is no right: it is read, write or readwrite", arguments[1])
			}
			key, end, err := f.permitted(a, arguments[2:])
			if err != nil {
				return err
			}
			return a.administer(ctx, "role grant-permission", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.RoleGrantPermission(ctx, arguments[0], key, end, permission)
				return answer, fmt.Sprintf("Role %s updated\n", arguments[0]), err
			})
		}),
	}
	f.add(command)
	return command
}

func (a *app) roleRevokeCommand() *cobra.Command {
	var f spanFlags
	command := &cobra.Command{
		Use:     "revoke-permission ROLE KEY [END]",
		Short:   "Take the right to keys from a role",
		Long:    "Takes a permission from a role. The keys must be those that were granted: no part of a permission can be revoked.",
		Example: "  quorate role revoke-permission app app/ --prefix",
		Args:    cobra.RangeArgs(2, 3),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			key, end, err := f.permitted(a, arguments[1:])
			if err != nil {
				return err
			}
			return a.administer(ctx, "role revoke-permission", func(ctx context.Context, client *clientv3.Client) (any, string, error) {
				answer, err := client.RoleRevokePermission(ctx, arguments[0], key, end)
				what := "key "
				if end != "" {
					what = "range "
				}
				return answer, fmt.Sprintf("Permission of %s%s is revoked from role %s\n", what, a.spanText([]byte(key), []byte(end), false), arguments[0]), err
			})
		}),
	}
	f.add(command)
	return command
}

// permitted turns KEY [END] and flags into the keys of a permission, as etcd has them: all keys are those from "\x00" on.
func (f *spanFlags) permitted(a *app, arguments []string) (key, end string, err error) {
	key, options, _, err := f.span(a, arguments)
	if err != nil {
		return "", "", err
	}
	op := clientv3.OpGet(key, options...)
	if key = string(op.KeyBytes()); key == "" {
		key = "\x00"
	}
	return key, string(op.RangeBytes()), nil
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
