package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// passing are the codes of answers that are not of a kind (5xx, 429) that may change, and may change all the same: what was sent came damaged or not
// completely, or somebody else is writing the object.
var passing = map[string]bool{
	"RequestTimeout": true, "IncompleteBody": true, "BadDigest": true, "XAmzContentSHA256Mismatch": true, "XAmzContentChecksumMismatch": true,
	"OperationAborted": true, "ConditionalRequestConflict": true, "SlowDown": true, "Throttling": true, "ThrottlingException": true,
}

// judge tells by what a try says whether another one may say something else (ErrUnavailable), what it means, and what to do.
func (b *bucket) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ended := context.Cause(ctx); ended != nil {
		return fmt.Errorf("%w (%w)", ended, withoutSecrets(err, b.credentials))
	}
	err = withoutSecrets(err, b.credentials)
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode != 0 {
		return judgeAnswer(answer, err)
	}
	return judgeNetwork(err)
}

func judgeAnswer(answer minio.ErrorResponse, err error) error {
	status := answer.StatusCode
	switch {
	case passing[answer.Code], status == http.StatusRequestTimeout, status == http.StatusTooManyRequests,
		status >= 500 && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported:
		return unavailable(fmt.Errorf("the server answered %d %s: %w", status, answer.Code, err))
	case answer.Code == minio.NoSuchBucket:
		return fmt.Errorf("there is no such bucket: make it, or correct the URL: %w", err)
	case status == http.StatusNotFound:
		return ErrNotFound
	case answer.Code == "RequestTimeTooSkewed":
		return fmt.Errorf("the server and this machine do not agree about the time: correct the clock of this machine: %w", err)
	case answer.Region != "" && (status == http.StatusBadRequest || status == http.StatusMovedPermanently):
		return fmt.Errorf("the bucket is in another region: add region=%s to the URL: %w", answer.Region, err)
	case status >= 300 && status < 400:
		return fmt.Errorf("the server sends this program to another place (%d), where it does not go with its credentials: correct endpoint, region or "+
			"path-style of the URL: %w", status, err)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("the server refuses these credentials (%s): they need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket: %w", answer.Code, err)
	}
	return fmt.Errorf("the server answered %d %s: %w", status, answer.Code, err)
}

// judgeNetwork: what is wrong with a name, a certificate or a protocol stays so; everything else may pass.
func judgeNetwork(err error) error {
	var (
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		unknown     x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Errorf("the host of the endpoint is not known: correct the URL (path-style=true if the bucket stands before it): %w", err)
	case errors.As(err, &certificate), errors.As(err, &unknown):
		return fmt.Errorf("the server's certificate is not trusted: name the file of its authority with ca-file: %w", err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("the server speaks TLS and the endpoint says http://, or the other way round: correct the endpoint: %w", err)
	}
	return unavailable(err)
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
