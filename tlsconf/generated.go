package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The files of a certificate that was made here, under etcd's names for them.
const (
	keptCertificate = "cert.pem"
	keptKey         = "key.pem"
)

// KeepIn has the certificate that is made here kept in a directory, with its key, so that whoever was told to trust it need not be told again at each start.
// One that is there is used, unless half of its time is over, or it lacks a host. Without such a certificate nothing happens.
func (s *Source) KeepIn(directory string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.options.Generates() {
		return nil
	}
	s.keep = directory
	kept, err := s.load()
	if err != nil {
		return err
	}
	s.current = kept
	clear(s.servers)
	return nil
}

// generated gives the certificate that is kept in a directory, or a new one, which is kept from then on. Without a directory it is always new.
func generated(o Options, hosts []string, directory string) (*material, error) {
	flag := flagNames[o.Role].auto
	if directory != "" {
		certFile, keyFile := filepath.Join(directory, keptCertificate), filepath.Join(directory, keptKey)
		if pair, err := ReadPair(flag, certFile, flag, keyFile); err == nil && !halfOver(pair.Leaf) && validForAll(pair.Leaf, hosts) {
			return ownMaterial(flag, pair), nil
		}
	}
	certificate, key, err := selfSigned(o, hosts)
	if err != nil {
		return nil, err
	}
	if directory != "" {
		if err := keep(directory, certificate, key); err != nil {
			return nil, fmt.Errorf("%s: keep the certificate: %w", flag, err)
		}
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("tlsconf: read a certificate that was made here: %w", err)
	}
	return ownMaterial(flag, pair), nil
}

func ownMaterial(flag string, pair tls.Certificate) *material {
	return &material{certificate: pair, asClient: pair, expiries: []Expiry{{Flag: flag, What: "certificate", NotAfter: pair.Leaf.NotAfter}}}
}

func selfSigned(o Options, hosts []string) (certificate, key []byte, err error) {
	now := time.Now()
	template := newTemplate(Request{
		CommonName: "quorate", Hosts: hosts, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Duration(o.AutoYears) * year),
		Uses: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return signedPEM(template, template, nil)
}

// keep writes both files. After a crash between them they do not fit together, and are made anew.
func keep(directory string, certificate, key []byte) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	return errors.Join(replaceFile(filepath.Join(directory, keptKey), key), replaceFile(filepath.Join(directory, keptCertificate), certificate))
}

// replaceFile writes a file that nobody else can read. Whoever reads it sees the old content or the new one.
func replaceFile(path string, content []byte) error {
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) { // whatever mode it had
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// halfOver tells whether half of a certificate's time is over.
func halfOver(leaf *x509.Certificate) bool {
	return time.Now().After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2))
}

func validForAll(leaf *x509.Certificate, hosts []string) bool {
	return !slices.ContainsFunc(hosts, func(host string) bool { return leaf.VerifyHostname(host) != nil })
}
