package target

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	pageKeys      = 1000 // S3 gives no more at a time
	maxIdle       = 16   // connections kept open
	dialTimeout   = 10 * time.Second
	idleTimeout   = time.Minute
	expectTimeout = 5 * time.Second
	checksumKey   = "x-amz-checksum-crc32c"
	partial       = "Content-Range"
	unsatisfiable = http.StatusRequestedRangeNotSatisfiable
)

// bucket is a target in a bucket of an S3 server. Its methods try once.
type bucket struct {
	address     address
	credentials *credentials.Credentials
	transport   *http.Transport
	client      *minio.Core
}

func openS3(_ context.Context, text string, options Options) (Target, error) {
	a, err := parseS3(text, os.Getenv)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(a)
	if err != nil {
		return nil, err
	}
	found, err := findCredentials()
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupDNS
	if a.pathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.NewCore(a.endpoint.Host, &minio.Options{
		Creds: found, Secure: a.endpoint.Scheme == "https", Region: a.region, BucketLookup: lookup, MaxRetries: 1,
		Transport: impatient{transport, options.StallTimeout},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	return Patiently(&bucket{address: a, credentials: found, transport: transport, client: client}, options), nil
}

func newTransport(a address) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.caFile != "" {
		text, err := os.ReadFile(a.caFile)
		if err != nil {
			return nil, fmt.Errorf("backup target: read the certificates of ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("backup target: the file %s of ca-file has no certificates in PEM", a.caFile)
		}
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTimeout, TLSHandshakeTimeout: dialTimeout,
		ExpectContinueTimeout: expectTimeout, DisableCompression: true,
	}, nil
}

// String implements Target.
func (b *bucket) String() string { return b.address.String() }

// Close implements Target.
func (b *bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// Put implements Target.
func (b *bucket) Put(ctx context.Context, name string, data []byte) error {
	err := checkWrite(ctx, name, data)
	if err == nil {
		err = b.judge(ctx, b.put(ctx, name, data, minio.PutObjectOptions{}))
	}
	return failed("write", name, b.String(), err)
}

// PutNew implements Target. The server decides by If-None-Match; the question before it is for servers that do not know it.
func (b *bucket) PutNew(ctx context.Context, name string, data []byte) error {
	return failed("write", name, b.String(), b.putNew(ctx, name, data))
}

func (b *bucket) putNew(ctx context.Context, name string, data []byte) error {
	if err := checkWrite(ctx, name, data); err != nil {
		return err
	}
	_, err := b.client.StatObject(ctx, b.address.bucket, b.address.key(name), minio.StatObjectOptions{})
	if err == nil {
		return ErrExists
	}
	if err = b.judge(ctx, err); !errors.Is(err, ErrNotFound) {
		return err
	}
	conditional := minio.PutObjectOptions{}
	conditional.SetMatchETagExcept("*")
	err = b.put(ctx, name, data, conditional)
	switch minio.ToErrorResponse(err).StatusCode {
	case http.StatusPreconditionFailed:
		return ErrExists
	case http.StatusNotImplemented:
		err = b.put(ctx, name, data, minio.PutObjectOptions{})
	}
	return b.judge(ctx, err)
}

// put sends an object with its SHA-256, which the server compares with what it got, and a checksum that is kept with the object.
func (b *bucket) put(ctx context.Context, name string, data []byte, options minio.PutObjectOptions) error {
	hash, checksum := sha256.Sum256(data), crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	options.DisableContentSha256 = true // of pieces: this is one of all
	options.UserMetadata = map[string]string{checksumKey: base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, checksum))}
	_, err := b.client.PutObject(ctx, b.address.bucket, b.address.key(name), bytes.NewReader(data), int64(len(data)), "", hex.EncodeToString(hash[:]), options)
	return err
}

// ReadAt implements Target.
func (b *bucket) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	if len(p) == 0 && offset >= 0 {
		_, err := b.Size(ctx, name)
		return 0, err
	}
	err := checkRead(ctx, name, p, offset)
	if err != nil {
		return 0, failed("read", name, b.String(), err)
	}
	n, err := b.read(ctx, name, p, offset)
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, failed("read", name, b.String(), err)
}

func (b *bucket) read(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	var options minio.GetObjectOptions
	if offset == 0 {
		options.Checksum = true // of the whole object, if the answer is that
	} else if err := options.SetRange(offset, offset+int64(len(p))-1); err != nil {
		return 0, err
	}
	body, info, header, err := b.client.GetObject(ctx, b.address.bucket, b.address.key(name), options)
	if minio.ToErrorResponse(err).StatusCode == unsatisfiable {
		return 0, io.EOF
	}
	if err != nil {
		return 0, b.judge(ctx, err)
	}
	defer body.Close()
	rest, err := remaining(header, info.Size, offset)
	if err != nil {
		return 0, unavailable(err)
	}
	part := p[:min(int64(len(p)), rest)]
	if n, err := io.ReadFull(body, part); err != nil {
		return n, b.judge(ctx, fmt.Errorf("the answer ended after %d bytes of %d: %w", n, len(part), noEnd(err)))
	}
	if int64(len(part)) < rest {
		return len(part), nil // the connection is given up with what else comes
	}
	// The end of the body is where checksums are compared.
	if n, err := body.Read(make([]byte, 1)); n > 0 || err != nil && !errors.Is(err, io.EOF) {
		return 0, b.judge(ctx, fmt.Errorf("the answer does not end as it should: %w", noEnd(err)))
	}
	if len(part) < len(p) {
		return len(part), io.EOF
	}
	return len(part), nil
}

// noEnd makes an error of an end that comes too early, or not.
func noEnd(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// remaining is how many bytes an answer has from the offset on, of which it gives no more than asked for, or all if the offset is 0.
func remaining(header http.Header, length, offset int64) (int64, error) {
	text := header.Get(partial)
	if text == "" {
		if offset > 0 && length > 0 {
			return 0, errors.New("the server gave all of the object instead of a part")
		}
		return length, nil
	}
	part, _, _ := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, last, _ := strings.Cut(part, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	to, problem := strconv.ParseInt(last, 10, 64)
	if err != nil || problem != nil || from != offset || to-from+1 != length {
		return 0, fmt.Errorf("the server gave another part of the object than asked for: %q with %d bytes for one that begins at %d", text, length, offset)
	}
	return length, nil
}

// Size implements Target.
func (b *bucket) Size(ctx context.Context, name string) (int64, error) {
	err := checkRead(ctx, name, nil, 0)
	if err != nil {
		return 0, failed("look for", name, b.String(), err)
	}
	info, err := b.client.StatObject(ctx, b.address.bucket, b.address.key(name), minio.StatObjectOptions{})
	return info.Size, failed("look for", name, b.String(), b.judge(ctx, err))
}

// List implements Target.
func (b *bucket) List(ctx context.Context, prefix string, fn func(name string, size int64) error) error {
	return b.listAfter(ctx, prefix, "", fn)
}

// listAfter implements resumable.
func (b *bucket) listAfter(ctx context.Context, prefix, after string, fn func(name string, size int64) error) error {
	err := CheckPrefix(prefix)
	if err == nil {
		err = b.list(ctx, prefix, after, fn)
	}
	if own := (final{}); errors.As(err, &own) {
		return err
	}
	return failed("list", prefix, b.String(), err)
}

func (b *bucket) list(ctx context.Context, prefix, after string, fn func(name string, size int64) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := minio.ListObjectsOptions{Prefix: b.address.key(prefix), Recursive: true, MaxKeys: pageKeys}
	if after != "" {
		options.StartAfter = b.address.key(after)
	}
	last := after
	for object := range b.client.ListObjectsIter(ctx, b.address.bucket, options) {
		if object.Err != nil {
			return b.judge(ctx, object.Err)
		}
		name := b.address.name(object.Key)
		if CheckName(name) != nil {
			continue // somebody else's
		}
		if name <= last {
			return fmt.Errorf("the server does not list in the order of names (%q after %q), as directory buckets of Amazon do not: use a bucket of the usual kind", name, last)
		}
		last = name
		if err := fn(name, object.Size); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// Delete implements Target.
func (b *bucket) Delete(ctx context.Context, name string) error {
	err := checkRead(ctx, name, nil, 0)
	if err == nil {
		err = b.judge(ctx, b.client.RemoveObject(ctx, b.address.bucket, b.address.key(name), minio.RemoveObjectOptions{}))
	}
	return failed("delete", name, b.String(), unless(err, ErrNotFound))
}
