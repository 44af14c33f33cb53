package target

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// address is what the URL of an S3 target says.
type address struct {
	bucket, prefix string // prefix has no slash at its ends
	endpoint       *url.URL
	region         string
	pathStyle      bool
	caFile         string
}

var (
	bucketName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{1,62}$`)
	parameter  = regexp.MustCompile(`^[a-z-]{1,20}$`)
)

// parseS3 reads the URL of an S3 target. It repeats nothing of what it does not understand: there may be a secret in it.
func parseS3(text string, getenv func(string) string) (address, error) {
	parsed, err := url.Parse(text)
	switch {
	case err != nil || parsed.Opaque != "":
		return address{}, fmt.Errorf("%w: it has the form s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION; credentials never stand in it", ErrURL)
	case parsed.User != nil:
		return address{}, fmt.Errorf("%w: credentials do not belong into a URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials", ErrURL)
	case parsed.Fragment != "":
		return address{}, fmt.Errorf("%w: an s3:// URL has no #", ErrURL)
	case !bucketName.MatchString(parsed.Host):
		return address{}, fmt.Errorf("%w: the bucket's name has 3 to 63 letters, digits, dots and dashes", ErrURL)
	}
	a := address{bucket: parsed.Host, prefix: strings.Trim(parsed.Path, "/")}
	if a.prefix != "" {
		if err := CheckName(a.prefix); err != nil {
			return address{}, fmt.Errorf("%w: the prefix is as the name of an object: %w", ErrURL, err)
		}
	}
	values, err := url.ParseQuery(parsed.RawQuery)
	if err != nil {
		return address{}, fmt.Errorf("%w: its parameters are not well escaped", ErrURL)
	}
	if err := a.take(values, getenv); err != nil {
		return address{}, err
	}
	return a, nil
}

// take takes the parameters.
func (a *address) take(values url.Values, getenv func(string) string) error {
	endpoint, pathStyle := firstOf(getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")), ""
	for name, all := range values {
		if len(all) != 1 || all[0] == "" {
			return fmt.Errorf("%w: each parameter stands once, with a value", ErrURL)
		}
		switch name {
		case "endpoint":
			endpoint = all[0]
		case "region":
			a.region = all[0]
		case "path-style":
			pathStyle = all[0]
		case "ca-file":
			a.caFile = all[0]
		default:
			if !parameter.MatchString(name) {
				name = "another one"
			}
			return fmt.Errorf("%w: an s3:// URL has the parameters endpoint, region, path-style and ca-file, and this one has %s", ErrURL, name)
		}
	}
	a.pathStyle = endpoint != "" // most servers but Amazon's have no names for buckets
	if pathStyle != "" {
		var err error
		if a.pathStyle, err = strconv.ParseBool(pathStyle); err != nil {
			return fmt.Errorf("%w: path-style is true or false", ErrURL)
		}
	}
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	}
	a.region = firstOf(a.region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"), "us-east-1")
	return a.setEndpoint(endpoint)
}

func (a *address) setEndpoint(text string) error {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || strings.Trim(parsed.Path, "/") != "" ||
		parsed.RawQuery != "" || parsed.Fragment != "" {
		return fmt.Errorf("%w: the endpoint has the form https://HOST:PORT, without a path or credentials", ErrURL)
	}
	a.endpoint = &url.URL{Scheme: parsed.Scheme, Host: parsed.Host}
	return nil
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// String is a URL that means the same whatever the environment says.
func (a address) String() string {
	values := url.Values{"endpoint": {a.endpoint.String()}, "region": {a.region}, "path-style": {strconv.FormatBool(a.pathStyle)}}
	if a.caFile != "" {
		values.Set("ca-file", a.caFile)
	}
	u := url.URL{Scheme: "s3", Host: a.bucket, RawQuery: values.Encode()}
	if a.prefix != "" {
		u.Path = "/" + a.prefix
	}
	return u.String()
}

// key is the name that an object has in the bucket.
func (a address) key(name string) string {
	if a.prefix == "" {
		return name
	}
	return a.prefix + "/" + name
}

// name is the object's name to a key.
func (a address) name(key string) string { return strings.TrimPrefix(key, a.key("")) }
