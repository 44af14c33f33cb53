package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type putFlags struct {
	lease                    string
	previous                 bool
	ignoreValue, ignoreLease bool
}

func (a *app) putCommand() *cobra.Command {
	f := &putFlags{}
	command := &cobra.Command{
		Use:   "put KEY [VALUE]",
		Short: "Write a key",
		Long: `Writes KEY. Without VALUE, the value is everything on standard input, which must not be
empty. An argument that begins with a dash comes after two dashes.`,
		Example: `  quorate put greeting hello
  quorate put app/config < config
  quorate put nothing ''                   # an empty value
  quorate put -- balance -5
  quorate put session/42 alice --lease 694d9a5b3c1f0e02
  quorate put --hex 00ff 0102`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.command(func(ctx context.Context, arguments []string) error { return a.put(ctx, f, arguments) }),
	}
	flags := command.Flags()
	flags.StringVar(&f.lease, "lease", "", "attach the key to this lease: it disappears with it")
	flags.BoolVar(&f.previous, "prev", false, "show what was there before")
	flags.BoolVar(&f.ignoreValue, "ignore-value", false, "keep the value (to change the lease only); the key must exist")
	flags.BoolVar(&f.ignoreLease, "ignore-lease", false, "keep the lease; the key must exist")
	return command
}

func (a *app) put(ctx context.Context, f *putFlags, arguments []string) error {
	options, err := f.options()
	if err != nil {
		return err
	}
	key, value, err := a.keyAndValue(ctx, f, arguments)
	if err != nil {
		return err
	}
	return a.request(ctx, "put", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.Put(ctx, key, value, options...)
		if err != nil {
			return err
		}
		return a.printPut(f, response)
	})
}

func (a *app) keyAndValue(ctx context.Context, f *putFlags, arguments []string) (key, value string, err error) {
	decoded, err := a.fromArguments(arguments)
	if err != nil {
		return "", "", err
	}
	switch {
	case decoded[0] == "":
		return "", "", usagef("the key is empty")
	case f.ignoreValue && len(decoded) == 2:
		return "", "", usagef("--ignore-value keeps the value: give none")
	case f.ignoreValue:
		return decoded[0], "", nil
	case len(decoded) == 2:
		return decoded[0], decoded[1], nil
	}
	value, err = a.inputValue(ctx)
	return decoded[0], value, err
}

func (f *putFlags) options() ([]clientv3.OpOption, error) {
	var options []clientv3.OpOption
	if f.lease != "" {
		if f.ignoreLease {
			return nil, usagef("--lease and --ignore-lease exclude each other")
		}
		id, err := parseLease(f.lease)
		if err != nil {
			return nil, err
		}
		options = append(options, clientv3.WithLease(id))
	}
	if f.previous {
		options = append(options, clientv3.WithPrevKV())
	}
	if f.ignoreValue {
		options = append(options, clientv3.WithIgnoreValue())
	}
	if f.ignoreLease {
		options = append(options, clientv3.WithIgnoreLease())
	}
	return options, nil
}

// parseLease reads a lease ID as the lease commands print it.
func parseLease(argument string) (clientv3.LeaseID, error) {
	id, err := strconv.ParseInt(argument, 16, 64)
	if err != nil || id == 0 {
		return 0, usagef("%q is not a lease ID: it is a hexadecimal number, as `quorate lease list` prints it", argument)
	}
	return clientv3.LeaseID(id), nil
}

func (a *app) printPut(f *putFlags, response *clientv3.PutResponse) error {
	if a.json() {
		return writeJSON(a.stdout, struct {
			Revision int64         `json:"revision"`
			Previous *keyValueJSON `json:"prev_kv,omitempty"`
		}{response.Header.Revision, toJSON(response.PrevKv, a.hex)})
	}
	if _, err := fmt.Fprintf(a.stdout, "written at revision %d\n", response.Header.Revision); err != nil {
		return err
	}
	if !f.previous {
		return nil
	}
	before := "there was nothing before"
	if previous := response.PrevKv; previous != nil {
		before = fmt.Sprintf("before: %s (revision %d)", text(previous.Value, a.hex), previous.ModRevision)
	}
	_, err := fmt.Fprintln(a.stdout, before)
	return err
}

func (a *app) delCommand() *cobra.Command {
	span := &spanFlags{}
	previous := false
	command := &cobra.Command{
		Use:     "del KEY [END]",
		Aliases: []string{"delete"},
		Short:   "Delete a key or a range of keys",
		Long:    "Deletes KEY, or all keys from KEY on and before END, or all that begin with KEY,\nat one revision. That nothing was there is no error.",
		Example: `  quorate del greeting
  quorate del app/ --prefix --prev`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.command(func(ctx context.Context, arguments []string) error { return a.del(ctx, span, previous, arguments) }),
	}
	span.add(command)
	command.Flags().BoolVar(&previous, "prev", false, "show what was deleted")
	return command
}

func (a *app) del(ctx context.Context, span *spanFlags, previous bool, arguments []string) error {
	key, options, _, err := span.span(a, arguments)
	if err != nil {
		return err
	}
	if previous {
		options = append(options, clientv3.WithPrevKV())
	}
	return a.request(ctx, "del", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.Delete(ctx, key, options...)
		if err != nil {
			return err
		}
		return a.printDelete(response.Header.Revision, response.Deleted, response.PrevKvs)
	})
}

func (a *app) printDelete(revision, deleted int64, previous []*mvccpb.KeyValue) error {
	if a.json() {
		return writeJSON(a.stdout, struct {
			Revision int64           `json:"revision"`
			Deleted  int64           `json:"deleted"`
			Previous []*keyValueJSON `json:"prev_kvs,omitempty"`
		}{revision, deleted, toJSONList(previous, a.hex)})
	}
	if deleted == 0 {
		_, err := fmt.Fprintln(a.stdout, "nothing to delete")
		return err
	}
	if _, err := fmt.Fprintf(a.stdout, "%s deleted at revision %d\n", plural(deleted, "key"), revision); err != nil {
		return err
	}
	if len(previous) == 0 {
		return nil
	}
	var rows [][]string
	for _, keyValue := range previous {
		value, _ := cell(keyValue.Value, a.hex)
		rows = append(rows, []string{text(keyValue.Key, a.hex), value, fmt.Sprint(keyValue.ModRevision)})
	}
	return table(a.stdout, []string{"KEY", "VALUE", "REVISION"}, rows)
}
