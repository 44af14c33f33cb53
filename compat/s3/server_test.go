package s3

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"github.com/quoratedb/quorate/transport/freeport"
)

const (
	accessKey = "the-access-key-of-the-tests"
	secretKey = "the-secret-key-of-the-tests"
	region    = "test-region-1"

	// serverDirectory and serverAddress, in the environment, make the test program the server.
	serverDirectory = "QUORATE_TEST_S3_DIRECTORY"
	serverAddress   = "QUORATE_TEST_S3_ADDRESS"
)

func TestMain(m *testing.M) {
	if directory := os.Getenv(serverDirectory); directory != "" {
		fmt.Fprintln(os.Stderr, serve(directory, os.Getenv(serverAddress)))
		os.Exit(1)
	}
	// Nothing but what the tests say: neither this machine's files, nor questions to addresses where some machines have metadata.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_PROFILE": "",
		"AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_CONFIG_FILE": "/nonexistent", "HTTP_PROXY": "", "HTTPS_PROXY": "",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// serve is versitygw with files behind it.
func serve(directory, address string) error {
	objects, sidecar := filepath.Join(directory, "objects"), filepath.Join(directory, "metadata")
	for _, name := range []string{objects, sidecar} {
		if err := os.MkdirAll(name, 0o700); err != nil {
			return err
		}
	}
	// Metadata in files of their own: not every file system has extended attributes.
	store, err := meta.NewSideCar(sidecar)
	if err != nil {
		return err
	}
	files, err := posix.New(objects, store, posix.PosixOpts{SideCarDir: sidecar, Concurrency: 64})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(context.Background(), files, &embedgw.Config{
		RootUserAccess: accessKey, RootUserSecret: secretKey, Region: region, Ports: []string{address}, MaxConnections: 1000, MaxRequests: 1000,
		MultipartMaxParts: 10000, KeepAlive: true, Quiet: true,
	})
}

// server is a running server.
type server struct {
	directory, address string
	process            *exec.Cmd
}

// start starts a server, and waits until it has a bucket.
func start(t *testing.T, bucket string) *server {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{directory: t.TempDir(), address: address}
	s.run(t)
	client, err := minio.New(s.address, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: region, BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{Region: region}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) run(t *testing.T) {
	t.Helper()
	s.process = exec.Command(os.Args[0])
	s.process.Env = append(os.Environ(), serverDirectory+"="+s.directory, serverAddress+"="+s.address)
	s.process.Stdout, s.process.Stderr = os.Stderr, os.Stderr
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		connection, err := net.Dial("tcp", s.address)
		if err == nil {
			connection.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not listen: ", err)
		}
	}
}

// kill ends the server as a power failure of its process would.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// plant puts an object of one byte there as others do who use the server's directory.
func (s *server) plant(key string) error {
	name := filepath.Join(s.directory, "objects", bucket, key)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, []byte("x"), 0o600)
}
