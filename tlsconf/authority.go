package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Authority signs certificates, for demonstrations and tests. Its key is in memory only.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Request says what a certificate is to say.
type Request struct {
	CommonName string
	Hosts      []string // names and IP addresses it is valid for
	NotBefore  time.Time
	NotAfter   time.Time
	Uses       []x509.ExtKeyUsage
}

// NewAuthority makes an authority.
func NewAuthority(name string, notBefore, notAfter time.Time) (*Authority, error) {
	template := newTemplate(Request{CommonName: name, NotBefore: notBefore, NotAfter: notAfter})
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	der, key, err := sign(template, template, nil)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &Authority{certificate: certificate, key: key}, err
}

// PEM is the authority's own certificate.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.certificate.Raw) }

// Issue makes a key and a certificate for it, both in PEM.
func (a *Authority) Issue(r Request) (certificate, key []byte, err error) {
	return signedPEM(newTemplate(r), a.certificate, a.key)
}

// Revoke makes a list of what the authority takes back, in PEM. There is to be another one at next.
func (a *Authority) Revoke(next time.Time, certificates ...*x509.Certificate) ([]byte, error) {
	now := time.Now()
	list := &x509.RevocationList{Number: serial(), ThisUpdate: now, NextUpdate: next}
	for _, c := range certificates {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.certificate, a.key)
	if err != nil {
		return nil, fmt.Errorf("tlsconf: make a revocation list: %w", err)
	}
	return encode("X509 CRL", der), nil
}

// signedPEM is sign, in PEM.
func signedPEM(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (certificate, key []byte, err error) {
	der, private, err := sign(template, parent, parentKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("tlsconf: encode a key: %w", err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER), nil
}

func newTemplate(r Request) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: r.CommonName}, NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: r.Uses, BasicConstraintsValid: true,
	}
	for _, host := range r.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	return t
}

// serial is random, positive, and of at most 20 bytes (RFC 5280, section 4.1.2.2).
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[0] = b[0]&0x7f | 1
	return new(big.Int).SetBytes(b[:])
}

// sign makes a key and its certificate. Without a key of the parent it signs itself.
func sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("tlsconf: make a key: %w", err)
	}
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("tlsconf: make a certificate: %w", err)
	}
	return der, key, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
