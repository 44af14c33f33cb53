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

// URL is an address in etcd's spelling: http://host:port, https:// with TLS, unix://path (unixs:// with TLS) for a socket in the file system.
type URL struct {
	Host string // name or IP address, without brackets
	Port uint16 // 0: any free port; only to listen on
	Path string // of a socket; then there is neither host nor port
	TLS  bool
}

// String gives the URL as ParseURL takes it.
func (u URL) String() string { return u.scheme() + "://" + u.HostPort() }

func (u URL) scheme() string {
	scheme := "http"
	if u.Path != "" {
		scheme = "unix"
	}
	if u.TLS {
		scheme += "s"
	}
	return scheme
}

// plain is the URL without TLS. It identifies a node: a cluster that takes to TLS stays the cluster it was.
func (u URL) plain() URL {
	u.TLS = false
	return u
}

// network is what net.Listen takes beside HostPort.
func (u URL) network() string {
	if u.Path != "" {
		return "unix"
	}
	return "tcp"
}

// HostPort gives what net.Dial and net.Listen take: host and port, or the path of a socket.
func (u URL) HostPort() string {
	if u.Path != "" {
		return u.Path
	}
	return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
}

// check applies etcd's rules: listeners bind IP addresses or localhost.
func (u URL) check(bind bool) error {
	switch {
	case u.Path != "":
		return u.checkPath()
	case u.Host == "":
		return fmt.Errorf("%s has no host; to listen on all addresses write 0.0.0.0", u)
	case bind && u.Host != "localhost" && net.ParseIP(u.Host) == nil:
		return fmt.Errorf("%s: to listen it takes an IP address or localhost, not a name", u)
	case !bind && u.Port == 0:
		return fmt.Errorf("%s: nobody can connect to port 0", u)
	}
	return nil
}

// maxSocketPath is what Linux and others take.
const maxSocketPath = 100

func (u URL) checkPath() error {
	if len(u.Path) > maxSocketPath || u.Host != "" || u.Port != 0 {
		return fmt.Errorf("%s: the path of a socket may have %d bytes", u, maxSocketPath)
	}
	return nil
}

// ParseURL reads http://host:port, https://host:port, unix://path or unixs://path, and says clearly what it does not take.
func ParseURL(text string) (URL, error) {
	parsed, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return URL{}, badf("%q is not a URL: it must look like http://10.0.0.1:2379", text)
	}
	switch parsed.Scheme {
	case "http", "https":
	case "unix", "unixs":
		u := URL{Path: parsed.Host + parsed.Path, TLS: parsed.Scheme == "unixs"}
		if u.Path == "" || u.String() != strings.TrimSpace(text) || strings.ContainsAny(u.Path, ",=") {
			return URL{}, badf("%s: the URL of a socket is unix:// and a path of plain characters, as in unix:///run/quorate.sock", text)
		}
		return u, nil
	default:
		return URL{}, badf("%q must begin with http:// or https://, as in http://10.0.0.1:2379", text)
	}
	if parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.User != nil {
		return URL{}, badf("%s: a URL here is http://host:port or https://host:port and nothing else", text)
	}
	u, err := parseHostPort(text, parsed.Host)
	u.TLS = err == nil && parsed.Scheme == "https"
	return u, err
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
