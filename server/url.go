package server

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func fillURLs(field *[]URL, port uint16) {
	if len(*field) == 0 {
		*field = []URL{{Host: "localhost", Port: port}}
		return
	}
	*field = slices.Clone(*field)
}

// URL is an address in etcd's spelling: http://host:port. There is no TLS yet,
// so there is no other scheme.
type URL struct {
	Host string // name or IP address, without brackets
	Port uint16 // 0: any free port; only to listen on
}

// String gives http://host:port.
func (u URL) String() string { return "http://" + u.HostPort() }

// HostPort gives what net.Dial and net.Listen take.
func (u URL) HostPort() string {
	return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
}

// check applies etcd's rules: listeners bind IP addresses or localhost.
func (u URL) check(bind bool) error {
	switch {
	case u.Host == "":
		return fmt.Errorf("%s has no host; to listen on all addresses write 0.0.0.0", u)
	case bind && u.Host != "localhost" && net.ParseIP(u.Host) == nil:
		return fmt.Errorf("%s: to listen it takes an IP address or localhost, not a name", u)
	case !bind && u.Port == 0:
		return fmt.Errorf("%s: nobody can connect to port 0", u)
	}
	return nil
}

// ParseURL reads http://host:port and says clearly what it does not take.
func ParseURL(text string) (URL, error) {
	parsed, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return URL{}, badf("%q is not a URL: it must look like http://10.0.0.1:2379", text)
	}
	switch parsed.Scheme {
	case "http":
	case "https", "unixs":
		return URL{}, badf("%s: TLS is not there yet; refusing to serve without the protection that %s:// promises (use http:// only on a network you trust)", text, parsed.Scheme)
	case "unix":
		return URL{}, badf("%s: unix sockets are not there yet; use http://127.0.0.1:port", text)
	default:
		return URL{}, badf("%q must begin with http://, as in http://10.0.0.1:2379", text)
	}
	if parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.User != nil {
		return URL{}, badf("%s: a URL here is http://host:port and nothing else", text)
	}
	return parseHostPort(text, parsed.Host)
}

func parseHostPort(text, hostPort string) (URL, error) {
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil || portText == "" {
		return URL{}, badf("%s has no port: it must look like http://10.0.0.1:2379", text)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return URL{}, badf("%s: %q is not a port (0 to 65535)", text, portText)
	}
	return URL{Host: host, Port: uint16(port)}, nil
}

// ParseURLs reads a comma-separated list. As in etcd a repeated URL counts once.
func ParseURLs(text string) ([]URL, error) {
	var urls []URL
	for _, part := range strings.Split(text, ",") {
		u, err := ParseURL(part)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	return urls, nil
}

func joinURLs(urls []URL) string {
	texts := make([]string, len(urls))
	for i, u := range urls {
		texts[i] = u.String()
	}
	return strings.Join(texts, ",")
}
