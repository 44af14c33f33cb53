package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// connect makes a client of all endpoints. It waits for a connection only to log in.
func (a *app) connect(ctx context.Context, what string) (*clientv3.Client, error) {
	endpoints, err := a.cleanEndpoints()
	if err != nil {
		return nil, err
	}
	client, err := a.newClient(endpoints, a.timeout)
	if err != nil {
		return nil, a.explain(ctx, what, err)
	}
	return client, nil
}

// newClient makes a client of endpoints as cleanEndpoints gives them. A user who logs in too often waits.
func (a *app) newClient(endpoints []string, timeout time.Duration) (*clientv3.Client, error) {
	patience := time.NewTimer(timeout)
	defer patience.Stop()
	for {
		client, err := a.logInAt(endpoints, timeout)
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrTooManyRequests) {
			return client, err
		}
		select {
		case <-patience.C:
			return nil, err
		case <-a.interrupted:
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (a *app) logInAt(endpoints []string, timeout time.Duration) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Username: a.identity.user, Password: a.identity.password, Token: a.identity.token,
		Endpoints:   endpoints,
		DialTimeout: timeout,
		TLS:         a.security.config,
		// The CLI reports errors itself.
		Logger: zap.NewNop(),
		// A node that was cut off must not hold a request until the system gives
		// up on the connection.
		DialKeepAliveTime:    5 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		// How large a request may be is for the nodes to say (--max-request-bytes); the library's own limit is 2 MiB.
		MaxCallSendMsgSize: math.MaxInt32,
	})
}

// cleanEndpoints accepts host:port, http://host:port, https://host:port and unix://path, and gives host:port and unix://path. Whether there is TLS follows
// from the first that says so, and from the flags.
func (a *app) cleanEndpoints() ([]string, error) {
	var endpoints, plain, secure []string
	for _, text := range a.endpoints {
		text = strings.TrimSpace(text)
		scheme, endpoint, found := strings.Cut(text, "://")
		if !found {
			scheme, endpoint = "", text
		}
		switch scheme {
		case "":
		case "http", "unix":
			plain = append(plain, text)
		case "https", "unixs":
			secure = append(secure, text)
		default:
			return nil, usagef("%s: %q must begin with http://, https:// or unix://, or be host:port", a.endpointsFrom, text)
		}
		if strings.HasPrefix(scheme, "unix") && endpoint != "" {
			endpoints = append(endpoints, "unix://"+endpoint)
			continue
		}
		endpoint = strings.TrimSuffix(endpoint, "/")
		if endpoint == "" {
			continue
		}
		_, port, err := net.SplitHostPort(endpoint)
		if number, notNumber := strconv.ParseUint(port, 10, 16); err != nil || notNumber != nil || number == 0 {
			return nil, usagef("%s: %q must look like %s, and several have commas between them", a.endpointsFrom, text, defaultEndpoint)
		}
		endpoints = append(endpoints, endpoint)
	}
	if len(endpoints) == 0 {
		return nil, usagef("%s is empty", a.endpointsFrom)
	}
	if len(plain) > 0 && len(secure) > 0 {
		return nil, usagef("%s mixes %s and %s: all nodes speak TLS with clients, or none does", a.endpointsFrom, plain[0], secure[0])
	}
	return endpoints, a.security.load(plain, secure)
}

// request runs one request with the timeout of the command line and turns its
// error into one for people.
func (a *app) request(ctx context.Context, what string, body func(context.Context, *clientv3.Client) error) error {
	client, err := a.connect(ctx, what)
	if err != nil {
		return err
	}
	defer client.Close()
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if err := body(limited, client); err != nil {
		return a.explain(ctx, what, err)
	}
	return nil
}

// unavailableError means that nothing was wrong with the request.
type unavailableError struct{ message string }

func (e *unavailableError) Error() string { return e.message }

// explain says what happened, to what, and what to try.
func (a *app) explain(ctx context.Context, what string, err error) error {
	var bad usageError
	var missing *notFoundError
	switch {
	case errors.As(err, &bad), errors.As(err, &missing):
		return err
	case ctx.Err() != nil && reads[what]:
		return fmt.Errorf("%s: interrupted", what)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: interrupted; whether it took effect is unknown", what)
	}
	// The client library gives some errors as status, some as its own type that
	// has a Code method.
	code, message := codeOf(err)
	switch {
	case strings.Contains(message, "no leader") || strings.Contains(message, "leader changed"):
		return &unavailableError{what + ": the cluster has no leader at the moment (" + message + "). More than half of its nodes must run and reach each other; `quorate status` shows them."}
	case strings.Contains(message, unhealthy):
	case code == codes.Unavailable || code == codes.DeadlineExceeded:
		return &unavailableError{what + ": " + a.diagnose(ctx, what, message)}
	}
	return refused(what, message)
}

// refused says why a node does not do something, and what helps.
func refused(what, message string) error {
	return fmt.Errorf("%s: %s%s", what, plain(message), advice(message))
}

// plain leaves out the prefixes that name parts of etcd, which tell a person nothing.
func plain(message string) string {
	return strings.TrimPrefix(strings.TrimPrefix(message, "etcdserver: "), "mvcc: ")
}

// advices say what to do about refusals whose text, which is etcd's, does not.
var advices = []struct{ part, advice string }{
	{"user name is empty", "; users have to log in: give --user, and --password-file or QUORATE_PASSWORD"},
	{"root user does not exist", "; make it: `quorate user add root`, then `quorate user grant-role root root`"},
	{"permission is not granted to the role", "; `quorate role get` shows those that are, and no part of one can be revoked"},
	{"invalid user ID or password", "; look at --user and the password"},
	{"database space exceeded", "; the quota of a node (--quota-backend-bytes) is reached. Delete keys, then run `quorate compact --latest --physical`, " +
		"`quorate defrag` and `quorate alarm disarm`; reads and deletes work meanwhile"},
	{"required revision has been compacted", "; history that old is forgotten, later revisions can still be read"},
	{"required revision is a future revision", "; `quorate status` shows the present one"},
	{"beyond the limit of", ". Ask for less at a time"},
	{"request is too large", "; the nodes' limit is --max-request-bytes"},
	{"received message larger than max", ": the request is too large; the nodes' limit is --max-request-bytes"},
	{unhealthy, "; a member is down, has come back less than 5 seconds ago, or the change before is not over: `quorate status` shows the nodes. Nothing was changed"},
	{"not enough started members", "; too few of those that vote would be up. Start those that were added, or remove them again"},
	{"which is in sync with leader", "; it has not got all of the data yet. Try again later"},
	{"too many learner members", "; promote or remove one, or start the node that is asked with a higher --max-learners"},
	{"duplicate key given in txn request", "; a transaction changes each key at most once"},
	{"too many operations", "; the nodes' limit is --max-txn-ops"},
}

// unhealthy is what etcd says where members are not to be changed now. It is a refusal.
const unhealthy = "unhealthy cluster"

func advice(message string) string {
	for _, a := range advices {
		if strings.Contains(message, a.part) {
			return a.advice
		}
	}
	return ""
}

func codeOf(err error) (codes.Code, string) {
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded, "no answer in time"
	}
	var coded interface{ Code() codes.Code }
	if errors.As(err, &coded) {
		return coded.Code(), err.Error()
	}
	if s, ok := status.FromError(err); ok {
		return s.Code(), s.Message()
	}
	return codes.Unknown, err.Error()
}

// diagnose asks each endpoint once more, only to say which of them can be reached at all.
func (a *app) diagnose(ctx context.Context, what, message string) string {
	endpoints, err := a.cleanEndpoints()
	if err != nil {
		return message
	}
	lines := []string{"no answer from the cluster"}
	nodes := a.askAll(ctx, endpoints, min(a.timeout, time.Second))
	for _, n := range nodes {
		lines = append(lines, "  "+n.Endpoint+": "+n.state())
	}
	return strings.Join(append(lines, a.nextStep(nodes, what, message)...), "\n")
}

// nextStep is advice after a request that nobody answered.
func (a *app) nextStep(nodes []*nodeStatus, what, message string) []string {
	var leaderless, answering, open, foreign, insecure int
	for _, n := range nodes {
		switch state := n.state(); {
		case n.Reachable && n.Role == noLeader:
			leaderless, open = leaderless+1, open+1
		case n.Reachable:
			answering, open = answering+1, open+1
		case state == notAClientPort:
			foreign++
		case state == speaksTLS, state == speaksPlain, strings.HasPrefix(state, withoutTLS):
			insecure++
		case n.open:
			open++
		}
	}
	var advice []string
	switch {
	case leaderless > 0 && answering == 0:
		advice = append(advice, "The cluster has no leader: more than half of its nodes must run and reach each other. `quorate status` shows them, `quorate get --serializable` reads what a node has.")
	case open > 0:
		advice = append(advice, "A node runs there and did not answer within "+a.timeout.String()+": it may have no leader, or be overloaded. `quorate status` shows more; --timeout waits longer.")
	case insecure > 0:
		return []string{"Nothing was asked. Nodes that have https:// in --listen-client-urls take --cacert, and --cert with --key if they ask for it; others take none of these."}
	case foreign > 0:
		return []string{"Clients connect to the addresses in --listen-client-urls of the nodes, which have port 2379 unless another was chosen; --endpoints says where to look."}
	default:
		return []string{"Is a node running there? `quorate demo` starts a cluster on this machine; --endpoints says where to look."}
	}
	if !reads[what] {
		advice = append(advice, "Whether it took effect is not known: read before you repeat it.")
	}
	return append(advice, "The last error was: "+message)
}

// reads are the commands that change nothing.
var reads = map[string]bool{"get": true, "watch": true, "lease list": true, "lease timetolive": true, "alarm list": true, "member list": true,
	"user list": true, "user get": true, "role list": true, "role get": true, "auth status": true}

// What an endpoint that accepts connections may turn out to be.
const (
	speaksTLS      = "speaks TLS, and this command did not: give --cacert, and --cert with --key if it asks for a certificate"
	speaksPlain    = "speaks no TLS: leave out https:// and the flags for certificates"
	notAClientPort = "accepts connections, but is not the client port of a node"
	withoutTLS     = "TLS was not established: " // and why
	silent         = "accepts connections, and does not answer"
)

// state is what can be said of a node in a few words.
func (n *nodeStatus) state() string {
	switch {
	case n.Reachable && n.Role == noLeader:
		return "answers, and knows no leader"
	case n.Reachable:
		return "answers, and knows a leader"
	}
	return n.Errors[0]
}

// unanswered says why a node that accepts connections gave no status.
func unanswered(err error) string {
	code, message := codeOf(err)
	switch {
	case refusesUsers(code, message):
		return plain(message)
	case strings.Contains(message, "looked like an HTTP/1.1 header"):
		return speaksTLS
	case strings.Contains(message, "first record does not look like a TLS handshake"):
		return speaksPlain
	case strings.Contains(message, "error reading server preface: remote error: tls: "), strings.Contains(message, "authentication handshake failed"):
		_, reason, _ := strings.Cut(message, "desc = ")
		return withoutTLS + strings.Trim(reason, `"`)
	case strings.Contains(message, "error reading server preface"):
		return notAClientPort
	case code == codes.DeadlineExceeded:
		return silent
	}
	return message
}

// refusesUsers tells whether a node has answered that whoever asks must not.
func refusesUsers(code codes.Code, message string) bool {
	return code == codes.Unauthenticated || code == codes.PermissionDenied || code == codes.InvalidArgument && strings.HasPrefix(message, "etcdserver: ")
}

const reachable = "accepts connections"

func probe(endpoint string) string {
	network, address := "tcp", endpoint
	if path, is := strings.CutPrefix(endpoint, "unix://"); is {
		network, address = "unix", path
	}
	connection, err := net.DialTimeout(network, address, 500*time.Millisecond)
	if err == nil {
		connection.Close()
		return reachable
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "nothing answers at this address"
	case strings.Contains(err.Error(), "refused"):
		return "connection refused: nothing listens on this port"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}
