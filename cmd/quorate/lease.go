package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (a *app) leaseCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "lease",
		Short: "Make, renew, end and show leases",
		Long: `A lease is a span of time with keys attached to it: when it ends, because nobody
renewed it or because it was revoked, its keys are deleted together.`,
		Example: `  quorate lease grant 30                       # prints the lease's ID
  quorate put session/42 alice --lease 694d9a5b3c1f0e02
  quorate lease keep-alive 694d9a5b3c1f0e02    # renews it until Ctrl-C`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(a.leaseGrantCommand(), a.leaseRevokeCommand(), a.leaseKeepAliveCommand(), a.leaseTimeToLiveCommand(), a.leaseListCommand())
	return command
}

func (a *app) leaseGrantCommand() *cobra.Command {
	id := ""
	command := &cobra.Command{
		Use:     "grant SECONDS",
		Short:   "Make a lease",
		Example: "  quorate lease grant 30",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.leaseGrant(ctx, arguments[0], id)
		}),
	}
	command.Flags().StringVar(&id, "id", "", "the lease's ID, hexadecimal (default: the store chooses)")
	return command
}

type leaseJSON struct {
	ID         string    `json:"id"`
	TTL        int64     `json:"ttl_seconds"`
	GrantedTTL int64     `json:"granted_ttl_seconds,omitempty"`
	Keys       []keyJSON `json:"keys,omitempty"`
}

// keyJSON is a key on its own in JSON output.
type keyJSON struct {
	Key    *string `json:"key,omitempty"`
	KeyHex *string `json:"key_hex,omitempty"`
}

func (a *app) leaseGrant(ctx context.Context, argument, idArgument string) error {
	seconds, err := strconv.ParseInt(argument, 10, 64)
	if err != nil || seconds < 1 {
		return usagef("%q is not a time to live: whole seconds from 1 on", argument)
	}
	id := clientv3.LeaseID(0)
	if idArgument != "" {
		if id, err = parseLease(idArgument); err != nil {
			return err
		}
	}
	return a.request(ctx, "lease grant", func(ctx context.Context, client *clientv3.Client) error {
		granted, ttl, err := grant(ctx, client, id, seconds)
		if err != nil {
			return err
		}
		if a.json() {
			return writeJSON(a.stdout, leaseJSON{ID: leaseText(int64(granted)), TTL: ttl})
		}
		_, err = fmt.Fprintf(a.stdout, "lease %s granted for %s\n", leaseText(int64(granted)), plural(ttl, "second"))
		return err
	})
}

func (a *app) leaseRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "End a lease and delete its keys",
		Example: "  quorate lease revoke 694d9a5b3c1f0e02",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			id, err := parseLease(arguments[0])
			if err != nil {
				return err
			}
			return a.request(ctx, "lease revoke", func(ctx context.Context, client *clientv3.Client) error {
				response, err := client.Revoke(ctx, id)
				if err != nil {
					return orNoSuchLease(err, id)
				}
				if a.json() {
					return writeJSON(a.stdout, struct {
						ID       string `json:"id"`
						Revision int64  `json:"revision"`
					}{leaseText(int64(id)), response.Header.Revision})
				}
				_, err = fmt.Fprintf(a.stdout, "lease %s revoked\n", leaseText(int64(id)))
				return err
			})
		}),
	}
}

func noSuchLease(id clientv3.LeaseID) error {
	return &notFoundError{"lease " + leaseText(int64(id)) + " does not exist; it may have expired"}
}

// orNoSuchLease names the lease that the store does not know.
func orNoSuchLease(err error, id clientv3.LeaseID) error {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return noSuchLease(id)
	}
	return err
}

func (a *app) leaseKeepAliveCommand() *cobra.Command {
	once := false
	command := &cobra.Command{
		Use:     "keep-alive ID",
		Short:   "Renew a lease until interrupted",
		Example: "  quorate lease keep-alive 694d9a5b3c1f0e02\n  quorate lease keep-alive --once 694d9a5b3c1f0e02",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			id, err := parseLease(arguments[0])
			if err != nil {
				return err
			}
			if once {
				return a.keepAliveOnce(ctx, id)
			}
			return a.keepAlive(ctx, id)
		}),
	}
	command.Flags().BoolVar(&once, "once", false, "renew it once and end")
	return command
}

func (a *app) keepAliveOnce(ctx context.Context, id clientv3.LeaseID) error {
	return a.request(ctx, "lease keep-alive", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.KeepAliveOnce(ctx, id)
		if err != nil {
			return orNoSuchLease(err, id)
		}
		return a.printRenewal(response)
	})
}

// keepAlive renews until the context ends, or until the lease has.
func (a *app) keepAlive(ctx context.Context, id clientv3.LeaseID) error {
	// The first renewal has a deadline, so that an absent cluster is noticed.
	if err := a.keepAliveOnce(ctx, id); err != nil {
		return err
	}
	client, err := a.connect(ctx, "lease keep-alive")
	if err != nil {
		return err
	}
	defer client.Close()
	renewals, err := client.KeepAlive(ctx, id)
	if err != nil {
		return a.explain(ctx, "lease keep-alive", err)
	}
	for renewal := range renewals {
		if err := a.printRenewal(renewal); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // Ctrl-C is how it ends
	}
	return &notFoundError{"lease " + leaseText(int64(id)) + " is no longer renewed: it expired or was revoked, or the cluster could not be reached for its whole time to live"}
}

func (a *app) printRenewal(response *clientv3.LeaseKeepAliveResponse) error {
	if a.json() {
		return writeJSON(a.stdout, leaseJSON{ID: leaseText(int64(response.ID)), TTL: response.TTL})
	}
	_, err := fmt.Fprintf(a.stdout, "lease %s renewed for %s\n", leaseText(int64(response.ID)), plural(response.TTL, "second"))
	return err
}

func (a *app) leaseTimeToLiveCommand() *cobra.Command {
	keys := false
	command := &cobra.Command{
		Use:     "timetolive ID",
		Aliases: []string{"ttl"},
		Short:   "Show what is left of a lease",
		Example: "  quorate lease timetolive 694d9a5b3c1f0e02 --keys",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.leaseTimeToLive(ctx, arguments[0], keys)
		}),
	}
	command.Flags().BoolVar(&keys, "keys", false, "list the keys attached to it, too")
	return command
}

func (a *app) leaseTimeToLive(ctx context.Context, argument string, keys bool) error {
	id, err := parseLease(argument)
	if err != nil {
		return err
	}
	var options []clientv3.LeaseOption
	if keys {
		options = append(options, clientv3.WithAttachedKeys())
	}
	return a.request(ctx, "lease timetolive", func(ctx context.Context, client *clientv3.Client) error {
		response, err := client.TimeToLive(ctx, id, options...)
		if err != nil {
			return err
		}
		// The protocol says "no such lease" by a negative time to live.
		if response.TTL < 0 {
			return noSuchLease(id)
		}
		return a.printTimeToLive(response)
	})
}

func (a *app) printTimeToLive(response *clientv3.LeaseTimeToLiveResponse) error {
	if a.json() {
		result := leaseJSON{ID: leaseText(int64(response.ID)), TTL: response.TTL, GrantedTTL: response.GrantedTTL}
		for _, key := range response.Keys {
			var one keyJSON
			one.Key, one.KeyHex = jsonBytes(key, a.hex)
			result.Keys = append(result.Keys, one)
		}
		return writeJSON(a.stdout, result)
	}
	if _, err := fmt.Fprintf(a.stdout, "lease %s: %s of %d left\n", leaseText(int64(response.ID)), plural(response.TTL, "second"), response.GrantedTTL); err != nil {
		return err
	}
	for _, key := range response.Keys {
		if _, err := fmt.Fprintln(a.stdout, "  "+text(key, a.hex)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) leaseListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all leases",
		Example: "  quorate lease list",
		Args:    cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			return a.request(ctx, "lease list", func(ctx context.Context, client *clientv3.Client) error {
				response, err := client.Leases(ctx)
				if err != nil {
					return err
				}
				return a.printLeases(response)
			})
		}),
	}
}

func (a *app) printLeases(response *clientv3.LeaseLeasesResponse) error {
	ids := make([]string, len(response.Leases))
	for i, lease := range response.Leases {
		ids[i] = leaseText(int64(lease.ID))
	}
	if a.json() {
		return writeJSON(a.stdout, struct {
			Leases []string `json:"leases"`
		}{ids})
	}
	for _, id := range ids {
		if _, err := fmt.Fprintln(a.stdout, id); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.stdout, "(%s)\n", plural(int64(len(ids)), "lease"))
	return err
}

// store chooses; an ID of one's own takes the protocol's own call.
func grant(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID, seconds int64) (clientv3.LeaseID, int64, error) {
	if id == 0 {
		response, err := client.Grant(ctx, seconds)
		if err != nil {
			return 0, 0, err
		}
		return response.ID, response.TTL, nil
	}
	response, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: seconds, ID: int64(id)})
	if err != nil {
		return 0, 0, err
	}
	return clientv3.LeaseID(response.ID), response.TTL, nil
}
