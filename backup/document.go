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
	// formatWithUsers is that of a manifest with users and roles.
	formatWithUsers = 2
	newestFormat    = formatWithUsers
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
	format := documentFormat
	if f, is := v.(formatted); is {
		format = f.format()
	}
	return append(documentHeader(kind, format, body, secret), body...), nil
}

// formatted is what says itself of which format it is.
type formatted interface{ format() int }

func documentHeader(kind string, format int, body, secret []byte) []byte {
	header := fmt.Appendf(nil, "%s %s %d sha256=%x", documentWord, kind, format, sha256.Sum256(body))
	if secret != nil {
		header = fmt.Appendf(header, " hmac=%x", documentMAC(kind, format, body, secret))
	}
	return append(header, '\n')
}

func documentMAC(kind string, format int, body, secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s %d\n", kind, format)
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
	newest := documentFormat
	f, several := v.(formatted)
	if several {
		newest = newestFormat
	}
	format, err := strconv.Atoi(words[2])
	switch {
	case err != nil || format < 1:
		return damagedf("it is no %s", kind)
	case format > newest:
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
	if several && f.format() != format {
		return damagedf("the %s is of format %d, and has what format %d has", kind, format, f.format())
	}
	return nil
}

// authentic tells whether a document has the HMAC of a secret.
func authentic(kind string, content, secret []byte) bool {
	line, body, _ := bytes.Cut(content, []byte{'\n'})
	format := 0
	if words := strings.Split(string(line), " "); len(words) > 2 {
		format, _ = strconv.Atoi(words[2]) // one that is no number is none of ours
	}
	return hmac.Equal(content[:len(content)-len(body)], documentHeader(kind, format, body, secret))
}
