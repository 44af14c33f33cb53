package demo

import (
	"errors"
	"strings"
	"testing"
)

func TestInstructionsNameAProgramThatWorks(t *testing.T) {
	find := func(found string, err error) func(string) (string, error) {
		return func(string) (string, error) { return found, err }
	}
	for _, c := range []struct {
		program string
		find    func(string) (string, error)
		want    string
	}{
		{"/tmp/go-build123/b001/exe/quorate", find("", errors.New("none")), "go run ./cmd/quorate"},
		{"/home/me/go/bin/quorate", find("/home/me/go/bin/quorate", nil), "quorate"},
		{"/src/quorate", find("/usr/bin/quorate", nil), "/src/quorate"},
		{"/src/quorate", find("", errors.New("none")), "/src/quorate"},
	} {
		if got := command(c.program, c.find); got != c.want {
			t.Errorf("%s: %q, want %q", c.program, got, c.want)
		}
	}
	text := instructions("/src/quorate", []string{"127.0.0.1:1", "127.0.0.1:2"}, false, nil)
	if strings.Contains(text, "shards") {
		t.Errorf("shards, where there is one: %s", text)
	}
	if text := instructions("/src/quorate", []string{"127.0.0.1:2379"}, true, nil); !strings.Contains(text, "&& /src/quorate status && /src/quorate shards\n") {
		t.Errorf("several shards are not named: %s", text)
	}
	if !strings.Contains(text, "export QUORATE_ENDPOINTS=127.0.0.1:1,127.0.0.1:2; /src/quorate put") {
		t.Errorf("other ports are not named: %s", text)
	}
	text = instructions("/src/quorate", []string{"127.0.0.1:2379"}, false, &identity{directory: "/d"})
	for _, want := range []string{"export QUORATE_CACERT=/d/ca.pem QUORATE_CERT=/d/client.pem QUORATE_KEY=/d/client-key.pem; /src/quorate put", "--cacert=/d/ca.pem --cert=/d/client.pem --key=/d/client-key.pem put"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}
