package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// startReal runs a node in this process, as quorate serve does, and returns its address.
func startReal(t *testing.T, flags ...string) string {
	t.Helper()
	address, _ := startIn(t, t.TempDir(), closedPort(t), flags...)
	return address
}

// startIn has it use a data directory, and its address for other nodes is given; stop ends it.
func startIn(t *testing.T, dataDir, peer string, flags ...string) (address string, stop func()) {
	t.Helper()
	client := closedPort(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, start: startNode}
	ended := make(chan int, 1)
	arguments := append([]string{"serve", "--name=n1", "--data-dir=" + dataDir, "--bcrypt-cost=4", "--initial-cluster=n1=http://" + peer,
		"--initial-advertise-peer-urls=http://" + peer, "--listen-peer-urls=http://" + peer,
		"--listen-client-urls=http://" + client, "--advertise-client-urls=http://" + client}, flags...)
	go func() { ended <- a.run(ctx, arguments) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	for {
		select {
		case code := <-ended:
			t.Fatalf("the node has ended with %d", code)
		default:
		}
		if _, stderr, code := invoke(t, nil, "", "get", "x", "--count-only", "--endpoints="+client, "--timeout=1s"); code == exitOK || strings.Contains(stderr, "user name is empty") {
			return client, stop
		}
	}
}

// clientLeaves are the commands that ask a cluster.
func clientLeaves(command *cobra.Command) (leaves []string) {
	for _, child := range command.Commands() {
		leaves = append(leaves, clientLeaves(child)...)
	}
	if command.HasSubCommands() || command.Flag("endpoints") == nil {
		return leaves
	}
	return append(leaves, strings.TrimPrefix(command.CommandPath(), "quorate "))
}

// TestEveryCommandWithUsers runs each command that asks a cluster where users have to log in: as root, as somebody who may nothing, and as nobody. What is said
// about users and roles is what etcdctl says.
func TestEveryCommandWithUsers(t *testing.T) {
	endpoint, dir := startReal(t), t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("root's own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := []string{"QUORATE_ENDPOINTS=" + endpoint}
	asRoot := append([]string{"QUORATE_USER=root", "QUORATE_PASSWORD_FILE=" + secret}, environment...)
	asBob := append([]string{"ETCDCTL_USER=bob", "ETCDCTL_PASSWORD=his"}, environment...)
	expect := func(environment []string, stdin, line, want string) {
		t.Helper()
		stdout, stderr, code := invoke(t, environment, stdin, words(line)...)
		if code != exitOK || stdout != want {
			t.Errorf("%s: exit %d, %q, %s, want %q", line, code, stdout, stderr, want)
		}
	}
	// Before: as it is set up.
	expect(environment, "", "user add root --new-password-file "+secret, "User root created\n")
	expect(environment, "his\nmore", "user add bob --interactive=false", "User bob created\n")
	expect(environment, "", "auth enable", "Authentication Enabled\n") // with root's role
	walked := map[string]bool{"user add": true, "auth enable": true}

	added := "" // member, by ID
	// Each as nobody, as bob, and as root, in this order.
	for _, c := range []struct{ line, stdin, want, refused string }{
		{line: "put app/a 1"}, {line: "get app/a"}, {line: "history app/a"}, {line: "watch app/a --rev 2 --count 1"}, {line: "txn", stdin: "then get app/a\n"}, {line: "del app/a"},
		{line: "lease grant 600 --id abc"},
		{line: "put app/leased 1 --lease abc"}, {line: "lease timetolive abc --keys"}, {line: "lease keep-alive abc --once"}, {line: "lease list"}, {line: "lease revoke abc"},
		{line: "compact --latest"}, {line: "status"}, {line: "shards"}, {line: "transactions"}, {line: "alarm list"}, {line: "alarm disarm"}, {line: "defrag"},
		{line: "member list"}, {line: "member add n2 --peer-urls http://127.0.0.1:9 --learner"}, {line: "member update ID --peer-urls http://127.0.0.1:10"},
		{line: "member promote ID", refused: "in sync"}, {line: "move-leader ID", refused: "bad leader"},
		{line: "member replace ID --peer-urls http://127.0.0.1:11", refused: "has no vote"}, {line: "member remove ID"},
		{line: "backup create " + filepath.Join(dir, "backups")},
		{line: "fence raise"}, {line: "fence status"}, {line: "fence release"},
		{line: "auth status", want: "Authentication Status: true\nAuthRevision: 5\n"},
		{line: "role add app", want: "Role app created\n"},
		{line: "role grant-permission app readwrite app/ --prefix", want: "Role app updated\n"},
		{line: "role grant-permission app read one", want: "Role app updated\n"},
		{line: "role grant-permission app write x y", want: "Role app updated\n"},
		{line: "role grant-permission app READ z --from-key", want: "Role app updated\n"},
		{line: "role get app", want: "Role app\nKV Read:\n\t[app/, app0) (prefix app/)\n\tone\n\t[z, <open ended>\nKV Write:\n\t[app/, app0) (prefix app/)\n\t[x, y) (prefix x)\n"},
		{line: "role get root", want: "Role root\nKV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n"},
		{line: "role revoke-permission app one", want: "Permission of key one is revoked from role app\n"},
		{line: "role revoke-permission app x y", want: "Permission of range [x, y) is revoked from role app\n"},
		{line: "role revoke-permission app z --from-key", want: "Permission of range [z, <open ended> is revoked from role app\n"},
		{line: "role list", want: "app\nroot\n"},
		{line: "user add cn --no-password", want: "User cn created\n"},
		{line: "user grant-role cn app", want: "Role app is granted to user cn\n"},
		{line: "user get cn", want: "User: cn\nRoles: app\n"},
		{line: "user get cn --detail", want: "User: cn\n\nRole app\nKV Read:\n\t[app/, app0) (prefix app/)\nKV Write:\n\t[app/, app0) (prefix app/)\n"},
		{line: "user revoke-role cn app", want: "Role app is revoked from user cn\n"},
		{line: "user passwd cn --interactive=false", stdin: "new", want: "Password updated\n"},
		{line: "user list", want: "bob\ncn\nroot\n"},
		{line: "user delete cn", want: "User cn deleted\n"},
		{line: "role delete app", want: "Role app deleted\n"},
		{line: "auth disable", want: "Authentication Disabled\n"},
	} {
		c.line = strings.Replace(c.line, " ID", " "+added, 1)
		walked[words(c.line)[0]] = true
		walked[strings.Join(words(c.line + " ''")[:2], " ")] = true
		if _, stderr, code := invoke(t, environment, c.stdin, words(c.line)...); code == exitOK && c.line != "auth status" || !strings.Contains(stderr, "give --user") && c.line != "auth status" {
			t.Errorf("%s as nobody: exit %d, %s", c.line, code, stderr)
		}
		// What everybody with a name may do: grant a lease, too, and clear the alarms that there are not.
		free := strings.Contains("status transactions shards member list alarm list alarm disarm fence status auth status lease grant 600 --id abc", c.line)
		if _, stderr, code := invoke(t, asBob, c.stdin, words(c.line)...); free != (code == exitOK) {
			t.Errorf("%s as bob: exit %d, %s", c.line, code, stderr)
		}
		if c.line == "lease grant 600 --id abc" {
			continue // it is there now
		}
		stdout, stderr, code := invoke(t, asRoot, c.stdin, words(c.line)...)
		if c.refused != "" && strings.Contains(stderr, c.refused) {
			continue // because of what is asked for, not of who asks
		}
		if code != exitOK || c.want != "" && stdout != c.want || strings.Contains(stdout, "cannot be read") {
			t.Errorf("%s as root: exit %d, %q, %s, want %q", c.line, code, stdout, stderr, c.want)
		}
		if strings.HasPrefix(c.line, "member add") {
			added = regexp.MustCompile("[0-9a-f]{12,16}").FindString(stdout)
		}
	}
	for _, leaf := range clientLeaves((&app{}).rootCommand()) {
		if !walked[leaf] && !strings.HasPrefix(leaf, "completion") {
			t.Errorf("%s was not tried where users have to log in", leaf)
		}
	}

	// What does not exist, and what must not be said like this.
	for _, c := range []struct {
		line, want string
		code       int
	}{
		{"user get nobody", "there is no such user", exitNotFound},
		{"role get nothing", "there is no such role", exitNotFound},
		{"user add x:y", "can be seen by others", exitUsage},
		{"user add x", "asked for at a terminal", exitUsage},
		{"user add x --new-user-password y", "did you mean --new-password-file?", exitUsage},
		{"user add x --password-file " + secret, "--new-password-file", exitUsage},
		{"user add x --no-password --interactive=false", "--no-password", exitUsage},
		{"user add x --interactive=false", "no password in its first line", exitUsage},
		{"role grant-permission app execute a", "read, write or readwrite", exitUsage},
		{"role grant-permission app read ''", "the key is empty", exitUsage},
		{"get a --user u --password p", "did you mean --password-file?", exitUsage},
		{"get a --user u --token-file " + secret, "one or the other", exitUsage},
	} {
		if stdout, stderr, code := invoke(t, environment, "", words(c.line)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %s%s, want %d, %q", c.line, code, stdout, stderr, c.code, c.want)
		}
	}
	// JSON is the answer, as etcdctl writes it; all keys are those from \x00 on.
	expect(environment, "", "role add all", "Role all created\n")
	expect(environment, "", "role grant-permission all read '' --prefix", "Role all updated\n")
	if stdout, _, _ := invoke(t, environment, "", words("role get all --output json")...); !strings.Contains(stdout, `"perm":[{"key":"AA==","range_end":"AA=="}]`) {
		t.Error(stdout)
	}
	// A password that is wrong is told as such, and one that is given for nothing is none.
	expect(environment, "", "auth enable", "Authentication Enabled\n")
	wrong := append([]string{"QUORATE_USER=root", "QUORATE_PASSWORD=wrong"}, environment...)
	for _, line := range []string{"get a", "status", "shards", "backup create " + dir} {
		if _, stderr, code := invoke(t, wrong, "", words(line)...); code == exitOK || !strings.Contains(stderr, "invalid user ID or password") {
			t.Errorf("%s with a wrong password: exit %d, %s", line, code, stderr)
		}
	}
}

// words are those of a command line; ” is an empty one.
func words(line string) []string {
	fields := strings.Fields(line)
	for i, f := range fields {
		if f == "''" {
			fields[i] = ""
		}
	}
	return fields
}

// TestBackupsHaveUsers: a cluster that is restored from a backup, hot or cold, asks for the users that were there, in another shape; and for none if they were
// left out at either end. What a token proved at the first cluster is void there.
func TestBackupsHaveUsers(t *testing.T) {
	dir := t.TempDir()
	secret, data := filepath.Join(dir, "secret"), filepath.Join(dir, "data")
	if err := os.WriteFile(secret, []byte("root's own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	endpoint, stop := startIn(t, data, closedPort(t))
	asRoot := []string{"QUORATE_USER=root", "QUORATE_PASSWORD_FILE=" + secret}
	run := func(environment []string, line string) string {
		t.Helper()
		stdout, stderr, code := invoke(t, environment, "", words(line)...)
		if code != exitOK {
			t.Fatalf("%s: exit %d, %s%s", line, code, stdout, stderr)
		}
		return stdout
	}
	at := append([]string{"QUORATE_ENDPOINTS=" + endpoint}, asRoot...)
	for _, line := range []string{"user add root --new-password-file " + secret, "auth enable", "put a 1", "role add app", "role grant-permission app read a"} {
		run(at, line)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	login, err := client.Authenticate(t.Context(), "root", "root's own")
	if err != nil {
		t.Fatal(err)
	}
	run([]string{"QUORATE_ENDPOINTS=" + endpoint, "QUORATE_AUTH_JWT_TOKEN=" + login.Token}, "get a")
	run(at, "backup create "+dir+"/hot")
	run(at, "backup create --without-users "+dir+"/without")
	stop()
	run(nil, "backup create --cold --data-dir "+data+" "+dir+"/cold")

	for _, c := range []struct {
		backup, flags string
		asked         bool
	}{{"hot", "", true}, {"cold", "", true}, {"hot", " --drop-auth", false}, {"without", "", false}} {
		what, peer := c.backup+c.flags, closedPort(t)
		into := filepath.Join(dir, "restored "+what)
		shape := []string{"--initial-shards=3", "--initial-partition=hash"}
		arguments := append(words("restore "+dir+"/"+c.backup+" --name=n1 --initial-cluster=n1=http://"+peer+" --initial-advertise-peer-urls=http://"+peer+c.flags), "--data-dir="+into)
		stdout, stderr, code := invoke(t, nil, "", append(arguments, shape...)...)
		_, token, found := strings.Cut(strings.TrimSpace(stdout), "--initial-cluster-token=")
		if code != exitOK || !found || strings.Contains(stderr, "have to log in") != c.asked {
			t.Fatalf("%s: exit %d, %s%s", what, code, stdout, stderr)
		}
		endpoint, stop := startIn(t, into, peer, append(shape, "--initial-cluster-token="+token)...)
		nobody := []string{"QUORATE_ENDPOINTS=" + endpoint}
		if _, stderr, code := invoke(t, nobody, "", "get", "a"); (code == exitOK) == c.asked {
			t.Errorf("%s: nobody reads: exit %d, %s", what, code, stderr)
		}
		if c.asked {
			if _, _, code := invoke(t, append([]string{"QUORATE_AUTH_JWT_TOKEN=" + login.Token}, nobody...), "", "get", "a"); code == exitOK {
				t.Errorf("%s: a token of the first cluster is good", what)
			}
			nobody = append(nobody, asRoot...)
		}
		if stdout := run(nobody, "get a --value-only"); stdout != "1\n" {
			t.Errorf("%s: %q", what, stdout)
		}
		want := map[bool]string{true: "app\nroot\n"}[c.asked]
		if roles := run(nobody, "role list"); roles != want {
			t.Errorf("%s: roles %q", what, roles)
		}
		stop()
	}
}
