package demo

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/quoratedb/quorate/tlsconf"
)

// identity are the certificates of a demonstration, made anew at each start. nil: plain text.
type identity struct{ directory string }

const (
	authorityFile = "ca.pem"
	nodeFile      = "node.pem"
	nodeKeyFile   = "node-key.pem"
	clientFile    = "client.pem"
	clientKeyFile = "client-key.pem"
	// identityDays is for how long the certificates are valid.
	identityDays = 30
)

func (of *identity) path(name string) string { return filepath.Join(of.directory, name) }

// makeIdentity makes an authority, whose key is not kept, a certificate for all nodes, and one for clients.
func makeIdentity(directory string) (*identity, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for certificates: %w", err)
	}
	of := &identity{directory}
	begin := time.Now().Add(-time.Minute)
	end := begin.Add(identityDays * 24 * time.Hour)
	authority, err := tlsconf.NewAuthority("Quorate demo", begin, end)
	if err != nil {
		return nil, err
	}
	node, nodeKey, err := authority.Issue(tlsconf.Request{CommonName: "node", Hosts: []string{"127.0.0.1", "localhost"}, NotBefore: begin, NotAfter: end,
		Uses: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, err
	}
	client, clientKey, err := authority.Issue(tlsconf.Request{CommonName: "client", NotBefore: begin, NotAfter: end, Uses: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, err
	}
	var failures []error
	for name, content := range map[string][]byte{authorityFile: authority.PEM(), nodeFile: node, nodeKeyFile: nodeKey, clientFile: client, clientKeyFile: clientKey} {
		failures = append(failures, os.WriteFile(of.path(name), content, 0o600))
	}
	if err := errors.Join(failures...); err != nil {
		return nil, fmt.Errorf("write certificates: %w", err)
	}
	return of, nil
}

func (of *identity) nodeFlags() []string {
	if of == nil {
		return nil
	}
	var flags []string
	for _, prefix := range []string{"--", "--peer-"} {
		flags = append(flags, prefix+"cert-file="+of.path(nodeFile), prefix+"key-file="+of.path(nodeKeyFile), prefix+"trusted-ca-file="+of.path(authorityFile))
	}
	return flags
}

// clientConfig is how clients connect.
func (of *identity) clientConfig() (*tls.Config, error) {
	if of == nil {
		return nil, nil
	}
	authorities, err := tlsconf.ReadAuthorities("authority", of.path(authorityFile))
	if err != nil {
		return nil, err
	}
	pair, err := tlsconf.ReadPair("certificate", of.path(clientFile), "key", of.path(clientKeyFile))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	for _, authority := range authorities {
		config.RootCAs.AddCert(authority)
	}
	return config, nil
}
