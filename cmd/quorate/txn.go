package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (a *app) txnCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "txn [LINE...]",
		Short: "Compare, then write or read, at one revision",
		Long:  txnHelp,
		Example: `  quorate txn 'if version(lock) = 0' 'then put lock me' 'else get lock'

  quorate txn <<END
  if
    value(account/a) = 100
  then
    put account/a 50
    put account/b 50
  END

  quorate txn          # on a terminal: asks line by line`,
		RunE: a.command(func(ctx context.Context, arguments []string) error { return a.txn(ctx, arguments) }),
	}
}

func (a *app) txn(ctx context.Context, arguments []string) error {
	var prompt func(section string)
	input := a.stdin
	switch {
	case len(arguments) > 0:
		input = strings.NewReader(strings.Join(arguments, "\n"))
	case isTerminal(a.stdin):
		prompt = a.txnPrompt()
	}
	t, err := untilInterrupted(ctx, func() (*txnText, error) { return parseTxn(input, a.hex, prompt) })
	switch {
	case errors.Is(err, errInterruptedInput):
		return fmt.Errorf("txn: %w", err)
	case err != nil:
		return err
	}
	return a.request(ctx, "txn", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.Txn(ctx).If(t.conditions...).Then(t.operations["then"]...).Else(t.operations["else"]...).Commit()
		if err != nil {
			return err
		}
		return a.printTxn(response)
	})
}

// txnPrompt asks a person for lines.
func (a *app) txnPrompt() func(section string) {
	fmt.Fprintln(a.stderr, `Conditions after "if", operations after "then" and "else", "commit" at the end; --help shows the syntax.`)
	return func(section string) { fmt.Fprintf(a.stderr, "%s> ", section) }
}

type txnJSON struct {
	Succeeded bool     `json:"succeeded"`
	Revision  int64    `json:"revision"`
	Results   []opJSON `json:"results"`
}

type opJSON struct {
	Op      string          `json:"op"`
	Count   int64           `json:"count,omitempty"`
	Deleted int64           `json:"deleted,omitempty"`
	KeyVals []*keyValueJSON `json:"kvs,omitempty"`
}

func (a *app) printTxn(response *clientv3.TxnResponse) error {
	if a.json() {
		result := txnJSON{Succeeded: response.Succeeded, Revision: response.Header.Revision, Results: []opJSON{}}
		for _, one := range response.Responses {
			result.Results = append(result.Results, a.opJSON(one))
		}
		return writeJSON(a.stdout, result)
	}
	branch := "the conditions held: then"
	if !response.Succeeded {
		branch = "a condition did not hold: else"
	}
	if _, err := fmt.Fprintf(a.stdout, "%s (revision %d)\n", branch, response.Header.Revision); err != nil {
		return err
	}
	for _, one := range response.Responses {
		if err := a.printOp(one); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) opJSON(response *pb.ResponseOp) opJSON {
	if get := response.GetResponseRange(); get != nil {
		return opJSON{Op: "get", Count: get.Count, KeyVals: toJSONList(get.Kvs, a.hex)}
	}
	if del := response.GetResponseDeleteRange(); del != nil {
		return opJSON{Op: "del", Deleted: del.Deleted}
	}
	return opJSON{Op: "put"}
}

func (a *app) printOp(response *pb.ResponseOp) error {
	lines := []string{"  put: written"}
	if del := response.GetResponseDeleteRange(); del != nil {
		lines = []string{"  del: " + plural(del.Deleted, "key") + " deleted"}
	}
	if get := response.GetResponseRange(); get != nil {
		lines = []string{"  get: " + plural(get.Count, "key")}
		for _, keyValue := range get.Kvs {
			lines = append(lines, fmt.Sprintf("    %s = %s (revision %d)", text(keyValue.Key, a.hex), text(keyValue.Value, a.hex), keyValue.ModRevision))
		}
	}
	_, err := fmt.Fprintln(a.stdout, strings.Join(lines, "\n"))
	return err
}
