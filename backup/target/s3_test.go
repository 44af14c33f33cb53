package target_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/backup/target"
)

const (
	accessKey    = "AKIA-the-name-of-the-key"
	secretKey    = "the-secret/of-the+tests"
	sessionToken = "the-session-token-of-the-tests"
)

// environment makes the credentials of a test, and keeps it from this machine's files and from asking for metadata.
func environment(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": sessionToken, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ACCESS_KEY": "", "AWS_SECRET_KEY": "", "AWS_PROFILE": "", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials", "AWS_CONFIG_FILE": "/nonexistent/config",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "HTTP_PROXY": "", "HTTPS_PROXY": "",
	} {
		t.Setenv(name, value)
	}
}

var impatient = target.Options{Patience: time.Nanosecond, StallTimeout: 2 * time.Second}

// answering opens a bucket of a server that answers as told.
func answering(t *testing.T, options target.Options, answer http.HandlerFunc) (target.Target, *httptest.Server) {
	t.Helper()
	environment(t)
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	at, err := target.Open(t.Context(), "s3://bucket/pre/fix?endpoint="+server.URL, options)
	must(t, err)
	t.Cleanup(func() { must(t, at.Close()) })
	return at, server
}

func hasSecret(text string) bool {
	return strings.Contains(text, secretKey) || strings.Contains(text, sessionToken) || strings.Contains(text, "hunter2")
}

func TestURLsThatNameNothing(t *testing.T) {
	environment(t)
	for address, says := range map[string]string{
		"":                                    "empty",
		"file://":                             "empty",
		"file:///a?b=c":                       "no parameters",
		"file:///a#b":                         "no parameters",
		"file:///a%zz":                        "%25",
		"file:///a%00":                        "zero byte",
		"gs://bucket":                         "storage.googleapis.com",
		"azblob://container":                  "gateway that speaks S3",
		"http://host/bucket":                  "there are file:// and s3://",
		"ftp:x":                               "there are file:// and s3://",
		"s3:bucket":                           "s3://BUCKET",
		"s3://":                               "bucket's name",
		"s3:///prefix":                        "bucket's name",
		"s3://b":                              "bucket's name",
		"s3://bu+cket":                        "bucket's name",
		"s3://bucket:9000":                    "bucket's name",
		"s3://bucket/a~b":                     "prefix",
		"s3://bucket/../x":                    "prefix",
		"s3://bucket//a//b":                   "prefix",
		"s3://bucket#x":                       "no #",
		"s3://key:hunter2@bucket/x":           "credentials do not belong",
		"s3://key:hunter2/x@bucket/x":         "credentials never stand",
		"s3://bucket?secret=hunter2":          "has secret",
		"s3://bucket?hunter2hunter2HUNTER2=1": "another one",
		"s3://bucket?region=":                 "with a value",
		"s3://bucket?region=a&region=b":       "stands once",
		"s3://bucket?a=%zz":                   "not well escaped",
		"s3://bucket?path-style=hunter2":      "true or false",
		"s3://bucket?endpoint=host:9000":      "https://HOST:PORT",
		"s3://bucket?endpoint=http://key:hunter2@host": "https://HOST:PORT",
		"s3://bucket?endpoint=http://host/path":        "https://HOST:PORT",
		"s3://bucket?endpoint=ftp://host":              "https://HOST:PORT",
	} {
		_, err := target.Open(t.Context(), address, target.Options{})
		if !errors.Is(err, target.ErrURL) || !strings.Contains(err.Error(), says) || hasSecret(err.Error()) {
			t.Errorf("%q: %v; it should say %q", address, err, says)
		}
	}
	for _, options := range []target.Options{{Patience: -1}, {StallTimeout: -1}} {
		if _, err := target.Open(t.Context(), "/x", options); err == nil {
			t.Errorf("%+v is taken", options)
		}
	}
}

// TestNamesOfTargets: a target calls itself by a URL that opens the same target wherever the program runs.
func TestNamesOfTargets(t *testing.T) {
	environment(t)
	t.Setenv("AWS_DEFAULT_REGION", "eu-north-1")
	here, err := os.Getwd()
	must(t, err)
	for address, want := range map[string]string{
		"/a/b c":                 "file:///a/b%20c",
		"/a/../b/":               "file:///b",
		"b":                      "file://" + here + "/b",
		"./x:y":                  "file://" + here + "/x:y",
		"file:///a/b%20c%3F%25":  "file:///a/b%20c%3F%25",
		"FILE:///a":              "file:///a",
		"file:/a":                "file:///a",
		"file:a/b":               "file://" + here + "/a/b",
		"file://a/b":             "file://" + here + "/a/b",
		"file://./a":             "file://" + here + "/a",
		"file://localhost/a":     "file:///a",
		"s3://bucket":            "s3://bucket?endpoint=https%3A%2F%2Fs3.amazonaws.com&path-style=false&region=eu-north-1",
		"s3://bucket/a/b/":       "s3://bucket/a/b?endpoint=https%3A%2F%2Fs3.amazonaws.com&path-style=false&region=eu-north-1",
		"s3://bucket/a?region=x": "s3://bucket/a?endpoint=https%3A%2F%2Fs3.amazonaws.com&path-style=false&region=x",
		"s3://bucket/a?endpoint=http://127.0.0.1:1/&region=x":                  "s3://bucket/a?endpoint=http%3A%2F%2F127.0.0.1%3A1&path-style=true&region=x",
		"s3://bucket/a?endpoint=https://127.0.0.1:1&region=x&path-style=false": "s3://bucket/a?endpoint=https%3A%2F%2F127.0.0.1%3A1&path-style=false&region=x",
	} {
		at := open(t, address)
		if at.String() != want {
			t.Errorf("%q calls itself %q, want %q", address, at, want)
		}
		if again := open(t, at.String()); again.String() != want {
			t.Errorf("%q opened again calls itself %q", at, again)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
	if at := open(t, "s3://bucket"); !strings.Contains(at.String(), "127.0.0.1%3A2&path-style=true") {
		t.Errorf("the endpoint of the environment is not used: %s", at)
	}
}

// TestCredentials come from the environment or the shared file; what is wrong with a file is not repeated.
func TestCredentials(t *testing.T) {
	environment(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	used := ""
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) { used = request.Header.Get("Authorization") }))
	defer server.Close()
	address := "s3://bucket?endpoint=" + server.URL
	if _, err := target.Open(t.Context(), address, impatient); err == nil || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") {
		t.Errorf("without credentials: %v", err)
	}
	file := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	for _, text := range []string{"[default]\nhunter2\n", "[default]\naws_access_key_id = hunter2\n", "[default\nhunter2", "hunter2"} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if _, err := target.Open(t.Context(), address, impatient); err == nil || !strings.Contains(err.Error(), "the shared files give none") || hasSecret(err.Error()) {
			t.Errorf("with %q: %v", text, err)
		}
	}
	must(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = one\naws_secret_access_key = hunter2\n[other]\naws_access_key_id = two\naws_secret_access_key = hunter2\n"), 0o600))
	for profile, want := range map[string]string{"": "Credential=one/", "other": "Credential=two/"} {
		t.Setenv("AWS_PROFILE", profile)
		at, err := target.Open(t.Context(), address, impatient)
		must(t, err)
		must(t, at.Put(t.Context(), "x", nil))
		if !strings.Contains(used, want) {
			t.Errorf("profile %q: %q", profile, used)
		}
	}
}

// TestAnswers: what is done about answers of servers that are not as they should be, and that no secret is in an error, whatever a server says.
func TestAnswers(t *testing.T) {
	xml := func(status int, code string) http.HandlerFunc {
		return func(answer http.ResponseWriter, request *http.Request) {
			answer.Header().Set("Content-Type", "application/xml")
			answer.WriteHeader(status)
			fmt.Fprintf(answer, "<Error><Code>%s</Code><Message>%s %s; your secret is %s, of //user:hunter2@proxy</Message></Error>",
				code, code, request.Header.Get("X-Amz-Security-Token"), secretKey)
		}
	}
	body := func(status int, contentRange string, length int, text string) http.HandlerFunc {
		return func(answer http.ResponseWriter, _ *http.Request) {
			if contentRange != "" {
				answer.Header().Set("Content-Range", contentRange)
			}
			answer.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			answer.Header().Set("Content-Length", fmt.Sprint(length))
			answer.WriteHeader(status)
			_, _ = io.WriteString(answer, text)
		}
	}
	damaged := func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("X-Amz-Checksum-Crc32c", "AAAAAA==")
		answer.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		body(200, "", 5, "01234")(answer, nil)
	}
	read := func(offset int64) func(ctx context.Context, at target.Target) error {
		return func(ctx context.Context, at target.Target) error {
			n, err := at.ReadAt(ctx, "x", make([]byte, 5), offset)
			return fmt.Errorf("%d: %w", n, err)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		call   func(ctx context.Context, at target.Target) error
		passes bool // so that it would be tried again
		says   string
	}{
		"denied":             {xml(403, "AccessDenied"), calls["put"], false, "refuses these credentials"},
		"wrong signature":    {xml(403, "SignatureDoesNotMatch"), calls["list"], false, "refuses these credentials"},
		"clock":              {xml(403, "RequestTimeTooSkewed"), calls["put"], false, "correct the clock"},
		"unauthorized":       {xml(401, "Unauthorized"), calls["size"], false, "refuses these credentials"},
		"no bucket":          {xml(404, "NoSuchBucket"), calls["put"], false, "there is no such bucket"},
		"no object":          {xml(404, "NoSuchKey"), read(0), false, "there is no such object"},
		"not implemented":    {xml(501, "NotImplemented"), calls["put"], false, "501"},
		"bad request":        {xml(400, "InvalidRequest"), calls["put"], false, "400"},
		"internal":           {xml(500, "InternalError"), calls["put"], true, "500"},
		"bad gateway":        {xml(502, ""), calls["delete"], true, "502"},
		"full":               {xml(507, "XMinioStorageFull"), calls["put"], true, "507"},
		"too many":           {xml(429, "TooManyRequests"), calls["list"], true, "429"},
		"damaged on the way": {xml(400, "XAmzContentSHA256Mismatch"), calls["put"], true, "400"},
		"damaged":            {xml(400, "BadDigest"), calls["put"], true, "400"},
		"somebody writes":    {xml(409, "ConditionalRequestConflict"), calls["put"], true, "409"},
		"no answer":          {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, calls["put"], true, "not available"},
		"no xml":             {body(200, "", 5, "hello"), calls["list"], true, "not available"},
		"cut":                {body(200, "", 5, "0123"), read(0), true, "4 bytes of 5"},
		"cut part":           {body(206, "bytes 2-6/10", 5, "23"), read(2), true, "2 bytes of 5"},
		"another part":       {body(206, "bytes 1-5/10", 5, "12345"), read(2), true, "another part"},
		"a longer part":      {body(206, "bytes 2-7/10", 5, "23456"), read(2), true, "another part"},
		"a senseless part":   {body(206, "bytes x", 5, "23456"), read(2), true, "another part"},
		"all of it":          {body(200, "", 10, "0123456789"), read(2), true, "instead of a part"},
		"flipped bits":       {damaged, read(0), true, "checksum mismatch"},
		"beyond the end":     {xml(416, "InvalidRange"), read(20), false, "EOF"},
		"out of order": {func(answer http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(answer, `<ListBucketResult><Contents><Key>pre/fix/x2</Key></Contents><Contents><Key>pre/fix/x1</Key></Contents></ListBucketResult>`)
		}, calls["list"], false, "in the order of names"},
	} {
		t.Run(name, func(t *testing.T) {
			at, _ := answering(t, impatient, c.answer)
			err := c.call(t.Context(), at)
			if err == nil || errors.Is(err, target.ErrUnavailable) != c.passes || !strings.Contains(err.Error(), c.says) || hasSecret(err.Error()) {
				t.Errorf("it should say %q: %v", c.says, err)
			}
			for _, format := range []string{"%v", "%+v", "%s", "%q"} {
				if hasSecret(fmt.Sprintf(format, at)) {
					t.Errorf("%s of the target has a secret", format)
				}
			}
		})
	}
}

// TestRedirects are not followed: another host gets no request, with credentials or without.
func TestRedirects(t *testing.T) {
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		at, _ := answering(t, impatient, func(answer http.ResponseWriter, request *http.Request) {
			http.Redirect(answer, request, other.URL+request.URL.Path, status)
		})
		for what, call := range calls {
			if err := call(t.Context(), at); err == nil || errors.Is(err, target.ErrUnavailable) || !strings.Contains(err.Error(), "another place") {
				t.Errorf("%d, %s: %v", status, what, err)
			}
		}
	}
	if asked > 0 {
		t.Errorf("the other host was asked %d times", asked)
	}
}

// TestStalledAnswers are ended, and say so.
func TestStalledAnswers(t *testing.T) {
	at, _ := answering(t, target.Options{Patience: time.Nanosecond, StallTimeout: 200 * time.Millisecond}, func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		answer.Header().Set("Content-Length", "1000")
		if strings.HasSuffix(request.URL.Path, "/later") {
			_, _ = io.WriteString(answer, "the beginning")
			answer.(http.Flusher).Flush()
		}
		<-request.Context().Done()
	})
	for _, name := range []string{"at-once", "later"} {
		if _, err := at.ReadAt(t.Context(), name, make([]byte, 1000), 0); !errors.Is(err, target.ErrUnavailable) || !strings.Contains(err.Error(), "for too long (200ms)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServersWithoutConditions: where the server does not know If-None-Match, objects that are there are not overwritten all the same.
func TestServersWithoutConditions(t *testing.T) {
	there := make(map[string]bool)
	at, _ := answering(t, impatient, func(answer http.ResponseWriter, request *http.Request) {
		switch {
		case request.Method == http.MethodHead && there[request.URL.Path]:
			answer.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		case request.Method == http.MethodHead:
			answer.WriteHeader(http.StatusNotFound)
		case request.Header.Get("If-None-Match") != "" && strings.HasSuffix(request.URL.Path, "/refuses"):
			answer.WriteHeader(http.StatusNotImplemented)
		default:
			there[request.URL.Path] = true
		}
	})
	for _, name := range []string{"refuses", "ignores"} {
		must(t, at.PutNew(t.Context(), name, nil))
		if err := at.PutNew(t.Context(), name, nil); !errors.Is(err, target.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTLS: a certificate is trusted if ca-file says so.
func TestTLS(t *testing.T) {
	environment(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	trusting, err := target.Open(t.Context(), "s3://bucket?endpoint="+server.URL+"&ca-file="+file, impatient)
	must(t, err)
	must(t, trusting.Put(t.Context(), "x", []byte("1")))
	other, err := target.Open(t.Context(), "s3://bucket?endpoint="+server.URL, impatient)
	must(t, err)
	if err := other.Put(t.Context(), "x", []byte("1")); err == nil || errors.Is(err, target.ErrUnavailable) || !strings.Contains(err.Error(), "with ca-file") {
		t.Errorf("without ca-file: %v", err)
	}
	must(t, os.WriteFile(file, []byte("hunter2"), 0o600))
	for _, name := range []string{file, file + ".missing"} {
		if _, err := target.Open(t.Context(), "s3://bucket?ca-file="+name, impatient); err == nil || hasSecret(err.Error()) {
			t.Errorf("ca-file %s: %v", name, err)
		}
	}
}
