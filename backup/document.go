package backup

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A document is what people may read: a line that says what it is, in which format, and the SHA-256 of the rest, which is JSON. One of an encrypted backup
// has an HMAC as well, so that nobody changes it who cannot read the backup.
//
//	quorate-backup manifest 1 sha256=... hmac=...
//	{ ...
const (
	documentWord   = "quorate-backup"
	documentFormat = 1
	// maxDocumentBytes bounds what is read of one.
	maxDocumentBytes = 64 << 20
)

// encodeDocument writes v. Without a secret there is no HMAC.
func encodeDocument(kind string, v any, secret []byte) ([]byte, error) {
	body, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, fmt.Errorf("backup: encode the %s: %w", kind, err)
	}
	body = append(body, '\n')
	return append(documentHeader(kind, body, secret), body...), nil
}

func documentHeader(kind string, body, secret []byte) []byte {
	header := fmt.Appendf(nil, "%s %s %d sha256=%x", documentWord, kind, documentFormat, sha256.Sum256(body))
	if secret != nil {
		header = fmt.Appendf(header, " hmac=%x", documentMAC(kind, body, secret))
	}
	return append(header, '\n')
}

func documentMAC(kind string, body, secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s %d\n", kind, documentFormat)
	mac.Write(body)
	return mac.Sum(nil)
}

// decodeDocument reads one whose bytes are right. Whether its HMAC is right is told by authentic.
func decodeDocument(kind string, content []byte, v any) error {
	line, body, found := bytes.Cut(content, []byte{'\n'})
	words := strings.Split(string(line), " ")
	if !found || len(words) < 4 || words[0] != documentWord || words[1] != kind {
		return damagedf("it is no %s", kind)
	}
	format, err := strconv.Atoi(words[2])
	switch {
	case err != nil || format < 1:
		return damagedf("it is no %s", kind)
	case format > documentFormat:
		return fmt.Errorf("the %s: %w (%d): use that version of Quorate", kind, ErrNewerFormat, format)
	}
	if words[3] != fmt.Sprintf("sha256=%x", sha256.Sum256(body)) {
		return damagedf("the checksum of the %s is wrong", kind)
	}
	if len(words) > 5 || len(words) == 5 && (len(words[4]) != len("hmac=")+2*sha256.Size || !strings.HasPrefix(words[4], "hmac=")) {
		return damagedf("the first line of the %s is wrong", kind)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(v); err != nil {
		return damagedf("the %s: %v", kind, err)
	}
	return nil
}

// authentic tells whether a document has the HMAC of a secret.
func authentic(kind string, content, secret []byte) bool {
	_, body, _ := bytes.Cut(content, []byte{'\n'})
	return hmac.Equal(content[:len(content)-len(body)], documentHeader(kind, body, secret))
}
