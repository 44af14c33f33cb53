package target

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// scheme is how URLs begin. A path that begins so is written with "./" before it.
var scheme = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]+):`)

// Open gives the target that a URL, or the path of a directory, names. It writes nothing, and does not look whether the place is there. ErrURL says
// what is wrong with the URL.
func Open(ctx context.Context, address string, options Options) (Target, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options = options.WithDefaults()
	found := scheme.FindStringSubmatch(address)
	if found == nil {
		return openPath(address)
	}
	switch rest := address[len(found[0]):]; strings.ToLower(found[1]) {
	case "file":
		return openFile(rest)
	case "s3":
		return openS3(ctx, address, options)
	case "gs", "gcs":
		return nil, fmt.Errorf("%w: gs:// is not built in: give the bucket keys for S3 (HMAC keys) and say s3://BUCKET/PREFIX?endpoint=https://storage.googleapis.com", ErrURL)
	case "azblob", "az", "abfs":
		return nil, fmt.Errorf("%w: azblob:// is not built in: run a gateway that speaks S3 before it (versitygw, for one) and say s3://BUCKET/PREFIX?endpoint=URL", ErrURL)
	}
	return nil, fmt.Errorf("%w: there are file:// and s3://, and paths of directories (./NAME if the name has a colon)", ErrURL)
}

// openFile opens what stands after "file:". Paths that do not begin with a slash are relative to the working directory, with and without the two slashes.
func openFile(rest string) (Target, error) {
	if strings.ContainsAny(rest, "?#") {
		return nil, fmt.Errorf("%w: file:// takes no parameters; write ? and # of a path as %%3F and %%23", ErrURL)
	}
	rest = strings.TrimPrefix(rest, "//")
	if absolute, ok := strings.CutPrefix(rest, "localhost/"); ok {
		rest = "/" + absolute
	}
	name, err := url.PathUnescape(rest)
	if err != nil {
		return nil, fmt.Errorf("%w: the path of the file:// URL is not well escaped: write %% as %%25", ErrURL)
	}
	return openPath(name)
}

func openPath(name string) (Target, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("%w: the path of the directory is empty, or has a zero byte", ErrURL)
	}
	absolute, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("backup target: find the working directory: %w", err)
	}
	return newDirectory(&rootedDisk{path: absolute}, filepath.ToSlash(absolute)), nil
}
