package main

import (
	"crypto/tls"
	"crypto/x509"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/tlsconf"
)

// clientSecurity is TLS as the flags of a client command want it. The flags are etcdctl's.
type clientSecurity struct {
	caFile, certFile, keyFile string
	skipVerify                bool
	prefix                    string // of the names of the flags

	config *tls.Config // nil: plain text
}

func (a *app) addSecurityFlags(command *cobra.Command) {
	s := &a.security
	flags := command.PersistentFlags()
	flags.StringVar(&s.caFile, "cacert", a.fromEnvironment("CACERT"), "file with the authorities of the nodes' certificates (PEM); connects with TLS")
	flags.StringVar(&s.certFile, "cert", a.fromEnvironment("CERT"), "file with this client's certificate (PEM), for nodes that ask for one; connects with TLS")
	flags.StringVar(&s.keyFile, "key", a.fromEnvironment("KEY"), "file with its key (PEM)")
	skip, _ := strconv.ParseBool(a.fromEnvironment("INSECURE_SKIP_TLS_VERIFY"))
	flags.BoolVar(&s.skipVerify, "insecure-skip-tls-verify", skip, "connect with TLS and accept any certificate: somebody in between can read and change everything")
}

// fromEnvironment is the value behind a flag: QUORATE_NAME, or etcdctl's ETCDCTL_NAME.
func (a *app) fromEnvironment(name string) string {
	if value := a.getenv("QUORATE_" + name); value != "" {
		return value
	}
	return a.getenv("ETCDCTL_" + name)
}

// load reads the files once it is known which endpoints say that they have TLS, or that they have none.
func (s *clientSecurity) load(plain, secure []string) error {
	flag, named := "", func(name string) string { return "--" + s.prefix + name }
	for _, f := range []struct {
		name  string
		given bool
	}{{named("cacert"), s.caFile != ""}, {named("cert"), s.certFile != ""}, {named("key"), s.keyFile != ""}, {named("insecure-skip-tls-verify"), s.skipVerify}} {
		if f.given && flag == "" {
			flag = f.name
		}
	}
	switch {
	case s.config != nil || flag == "" && len(secure) == 0:
		return nil
	case flag != "" && len(plain) > 0:
		return usagef("%s is given, and the endpoint %s has no TLS: nothing would be encrypted", flag, plain[0])
	case (s.certFile == "") != (s.keyFile == ""):
		return usagef("%s and %s belong together: give both", named("cert"), named("key"))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.skipVerify}
	if s.caFile != "" {
		authorities, err := tlsconf.ReadAuthorities(named("cacert"), s.caFile)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		for _, authority := range authorities {
			config.RootCAs.AddCert(authority)
		}
	}
	if s.certFile != "" {
		pair, err := tlsconf.ReadPair(named("cert"), s.certFile, named("key"), s.keyFile)
		if err != nil {
			return err
		}
		// Shown whatever authorities the node names: its reason to refuse it says more than that there was none.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	s.config = config
	return nil
}
