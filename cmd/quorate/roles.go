package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/authpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

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
