package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// spanFlags say which keys beside the one that is named.
type spanFlags struct {
	prefix  bool
	fromKey bool
}

func (f *spanFlags) add(command *cobra.Command) {
	command.Flags().BoolVar(&f.prefix, "prefix", false, "all keys that begin with KEY")
	command.Flags().BoolVar(&f.fromKey, "from-key", false, "all keys from KEY on")
}

// span turns arguments KEY [END] and flags into the key and options of an op.
func (f *spanFlags) span(a *app, arguments []string) (key string, options []clientv3.OpOption, single bool, err error) {
	decoded, err := a.fromArguments(arguments)
	if err != nil {
		return "", nil, false, err
	}
	key = decoded[0]
	ways := 0
	for _, given := range []bool{f.prefix, f.fromKey, len(decoded) == 2} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return "", nil, false, usagef("give only one of END, --prefix and --from-key")
	case f.prefix:
		// clientv3 makes a whole-space range of an empty prefix.
		return key, []clientv3.OpOption{clientv3.WithPrefix()}, false, nil
	case f.fromKey:
		return key, []clientv3.OpOption{clientv3.WithFromKey()}, false, nil
	case len(decoded) == 2:
		return key, []clientv3.OpOption{clientv3.WithRange(decoded[1])}, false, nil
	case key == "":
		return "", nil, false, usagef("the key is empty; all keys are: \"\" --prefix")
	}
	return key, nil, true, nil
}

// describe names the keys that span gives, for people.
func (f *spanFlags) describe(a *app, arguments []string) string {
	shown := make([]string, len(arguments))
	for i, argument := range arguments {
		shown[i] = argument // hexadecimal with --hex
		if !a.hex {
			shown[i] = text([]byte(argument), false)
		}
	}
	switch {
	case f.prefix && shown[0] == "", f.fromKey && shown[0] == "":
		return "all keys"
	case f.prefix:
		return "all keys that begin with " + shown[0]
	case f.fromKey:
		return "all keys from " + shown[0] + " on"
	case len(shown) == 2:
		return "all keys from " + shown[0] + " on, before " + shown[1]
	}
	return shown[0]
}

type getFlags struct {
	spanFlags
	revision, limit     int64
	atTime              string
	minMod, maxMod      int64
	minCreate           int64
	maxCreate           int64
	sortBy, order       string
	keysOnly, countOnly bool
	serializable        bool
	valueOnly           bool
}

func (a *app) getCommand() *cobra.Command {
	f := &getFlags{}
	command := &cobra.Command{
		Use:   "get KEY [END]",
		Short: "Read a key or a range of keys",
		Long: `Reads KEY, or all keys from KEY on and before END, or all that begin with KEY.
Values are cut to 80 characters when several keys are shown; --value-only and
--output json show all of them.`,
		Example: `  quorate get greeting
  quorate get app/ --prefix --limit 10
  quorate get a f --rev 7                  # as it was at revision 7
  quorate get greeting --at-time "2026-11-30 12:00:00"
  quorate get "" --prefix --count-only     # how many keys there are
  quorate get app/config --value-only > config`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.command(func(ctx context.Context, arguments []string) error { return a.get(ctx, f, arguments) }),
	}
	f.add(command)
	flags := command.Flags()
	flags.Int64Var(&f.revision, "rev", 0, "read as of this revision (0: the latest)")
	flags.StringVar(&f.atTime, "at-time", "", "read as of this time, to about a second: RFC 3339, or 2026-11-30 12:00:00 in local time")
	flags.Int64Var(&f.limit, "limit", 0, "at most so many keys (0: all)")
	flags.Int64Var(&f.minMod, "min-mod-rev", 0, "only keys last changed at this revision or later")
	flags.Int64Var(&f.maxMod, "max-mod-rev", 0, "only keys last changed at this revision or earlier")
	flags.Int64Var(&f.minCreate, "min-create-rev", 0, "only keys created at this revision or later")
	flags.Int64Var(&f.maxCreate, "max-create-rev", 0, "only keys created at this revision or earlier")
	flags.StringVar(&f.sortBy, "sort-by", "", "key, version, create, mod or value")
	flags.StringVar(&f.order, "order", "", "ascend or descend")
	flags.BoolVar(&f.keysOnly, "keys-only", false, "no values")
	flags.BoolVar(&f.countOnly, "count-only", false, "only how many keys there are")
	flags.BoolVar(&f.serializable, "serializable", false, "take what the asked node knows, which may be old, without asking the others")
	flags.BoolVar(&f.valueOnly, "value-only", false, "print values as they are, each followed by a newline, and nothing else")
	return command
}

func (a *app) get(ctx context.Context, f *getFlags, arguments []string) error {
	key, options, single, err := f.span(a, arguments)
	if err != nil {
		return err
	}
	if f.valueOnly && a.json() {
		return usagef("--value-only prints values as they are, which is not --output=json: give one of them")
	}
	if f.atTime != "" && (f.revision != 0 || f.serializable) {
		return usagef("--at-time goes neither with --rev nor with --serializable")
	}
	at, err := parseTime(f.atTime)
	if f.atTime != "" && err != nil {
		return usagef("--at-time=%s: %v", f.atTime, err)
	}
	if _, err := f.options(); err != nil {
		return err
	}
	return a.request(ctx, "get", func(ctx context.Context, client *clientv3.Client) error {
		if f.atTime != "" {
			revision, err := a.revisionAt(ctx, client, at)
			if err != nil {
				return err
			}
			f.revision = int64(revision)
		}
		more, err := f.options()
		if err != nil {
			return err
		}
		options = append(options, more...)
		response, err := client.Get(ctx, key, options...)
		if err != nil {
			return err
		}
		if err := a.printGet(f, single, response); err != nil {
			return err
		}
		if single && response.Count == 0 && !f.countOnly {
			return &notFoundError{"key " + text([]byte(key), a.hex) + " does not exist"}
		}
		return nil
	})
}

var sortTargets = map[string]clientv3.SortTarget{
	"": clientv3.SortByKey, "key": clientv3.SortByKey, "version": clientv3.SortByVersion,
	"create": clientv3.SortByCreateRevision, "mod": clientv3.SortByModRevision, "value": clientv3.SortByValue,
}

var sortOrders = map[string]clientv3.SortOrder{"": clientv3.SortNone, "ascend": clientv3.SortAscend, "descend": clientv3.SortDescend}

func (f *getFlags) options() ([]clientv3.OpOption, error) {
	target, knownTarget := sortTargets[f.sortBy]
	order, knownOrder := sortOrders[f.order]
	switch {
	case !knownTarget:
		return nil, usagef("--sort-by=%s: must be key, version, create, mod or value", f.sortBy)
	case !knownOrder:
		return nil, usagef("--order=%s: must be ascend or descend", f.order)
	case min(f.revision, f.limit, f.minMod, f.maxMod, f.minCreate, f.maxCreate) < 0:
		return nil, usagef("--limit and revisions must not be negative")
	case f.valueOnly && (f.keysOnly || f.countOnly):
		return nil, usagef("--value-only goes neither with --keys-only nor with --count-only: there would be nothing to print")
	}
	options := []clientv3.OpOption{
		clientv3.WithRev(f.revision), clientv3.WithLimit(f.limit),
		clientv3.WithMinModRev(f.minMod), clientv3.WithMaxModRev(f.maxMod),
		clientv3.WithMinCreateRev(f.minCreate), clientv3.WithMaxCreateRev(f.maxCreate),
	}
	if f.sortBy != "" || f.order != "" {
		if order == clientv3.SortNone {
			order = clientv3.SortAscend
		}
		options = append(options, clientv3.WithSort(target, order))
	}
	for _, o := range []struct {
		wanted bool
		option clientv3.OpOption
	}{
		{f.keysOnly, clientv3.WithKeysOnly()},
		{f.countOnly, clientv3.WithCountOnly()},
		{f.serializable, clientv3.WithSerializable()},
	} {
		if o.wanted {
			options = append(options, o.option)
		}
	}
	return options, nil
}

type getJSON struct {
	Revision int64           `json:"revision"`
	Count    int64           `json:"count"`
	More     bool            `json:"more"`
	KeyVals  []*keyValueJSON `json:"kvs"`
}

func (a *app) printGet(f *getFlags, single bool, response *clientv3.GetResponse) error {
	switch {
	case f.valueOnly:
		return a.printValues(response)
	case a.json():
		return writeJSON(a.stdout, a.getJSON(f, response))
	case f.countOnly:
		_, err := fmt.Fprintln(a.stdout, response.Count)
		return err
	case single && len(response.Kvs) == 1:
		return a.printOne(f, response)
	case len(response.Kvs) == 0:
		if single {
			return nil // the caller says that the key does not exist
		}
		_, err := fmt.Fprintln(a.stdout, "no keys")
		return err
	}
	return a.printMany(f, response)
}

func (a *app) getJSON(f *getFlags, response *clientv3.GetResponse) getJSON {
	list := toJSONList(response.Kvs, a.hex)
	if f.keysOnly {
		for _, keyValue := range list {
			keyValue.Value, keyValue.ValueHex = nil, nil
		}
	}
	return getJSON{Revision: response.Header.Revision, Count: response.Count, More: response.More, KeyVals: list}
}

func (a *app) printValues(response *clientv3.GetResponse) error {
	for _, keyValue := range response.Kvs {
		value := string(keyValue.Value)
		if a.hex {
			value = text(keyValue.Value, true)
		}
		if _, err := fmt.Fprintln(a.stdout, value); err != nil {
			return err
		}
	}
	return nil
}

// printOne shows one key in full, a line per field.
func (a *app) printOne(f *getFlags, response *clientv3.GetResponse) error {
	keyValue := response.Kvs[0]
	lines := [][]string{}
	if !f.keysOnly {
		lines = append(lines, []string{"value", text(keyValue.Value, a.hex)})
	}
	lines = append(lines,
		[]string{"revision", fmt.Sprintf("%d (created at %d, version %d)", keyValue.ModRevision, keyValue.CreateRevision, keyValue.Version)})
	if keyValue.Lease != 0 {
		lines = append(lines, []string{"lease", leaseText(keyValue.Lease)})
	}
	return table(a.stdout, []string{"key", text(keyValue.Key, a.hex)}, lines)
}

func (a *app) printMany(f *getFlags, response *clientv3.GetResponse) error {
	header := []string{"KEY", "VALUE", "REVISION", "CREATED", "VERSION", "LEASE"}
	if f.keysOnly {
		header = []string{"KEY", "REVISION", "CREATED", "VERSION", "LEASE"}
	}
	var rows [][]string
	anyCut := false
	for _, keyValue := range response.Kvs {
		row := []string{text(keyValue.Key, a.hex)}
		if !f.keysOnly {
			value, wasCut := cell(keyValue.Value, a.hex)
			anyCut = anyCut || wasCut
			row = append(row, value)
		}
		rows = append(rows, append(row,
			fmt.Sprint(keyValue.ModRevision), fmt.Sprint(keyValue.CreateRevision), fmt.Sprint(keyValue.Version), leaseText(keyValue.Lease)))
	}
	if err := table(a.stdout, header, rows); err != nil {
		return err
	}
	remark := plural(response.Count, "key")
	if response.More {
		remark = fmt.Sprintf("%d of %s shown", len(response.Kvs), remark)
	}
	if anyCut {
		remark += "; long values are cut, --value-only or --output json shows them whole"
	}
	_, err := fmt.Fprintf(a.stdout, "(%s, revision %d)\n", remark, response.Header.Revision)
	return err
}
