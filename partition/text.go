package partition

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ParseKind reads the name of a kind.
func ParseKind(text string) (Kind, error) {
	for _, kind := range []Kind{Range, Hash} {
		if text == kind.String() {
			return kind, nil
		}
	}
	return 0, fmt.Errorf("%q is no way to partition keys: it is %s or %s", text, Range, Hash)
}

// AppendKey appends a key as text: a percent sign and two hexadecimal digits stand for one byte that is not printable ASCII, or is a comma, a space, a quotation
// mark, a backslash or a percent sign. It is the only text that ParseKeys reads as the key among those that AppendKey writes.
func AppendKey(dst []byte, key []byte) []byte {
	for _, c := range key {
		if c <= ' ' || c > '~' || strings.IndexByte(",%\"'\\", c) >= 0 {
			dst = fmt.Appendf(dst, "%%%02X", c)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// FormatKeys writes keys with commas between them.
func FormatKeys(keys [][]byte) string {
	var text []byte
	for i, key := range keys {
		if i > 0 {
			text = append(text, ',')
		}
		text = AppendKey(text, key)
	}
	return string(text)
}

// ParseKeys reads what FormatKeys wrote, or somebody at a keyboard: whatever is neither a comma nor a percent sign stands for itself. Spaces count.
func ParseKeys(text string) ([][]byte, error) {
	if text == "" {
		return nil, errors.New("there is no key in it")
	}
	var keys [][]byte
	for part := range strings.SplitSeq(text, ",") {
		key, err := parseKey(part)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(text string) ([]byte, error) {
	key := make([]byte, 0, len(text))
	for rest := text; rest != ""; {
		if rest[0] != '%' {
			key, rest = append(key, rest[0]), rest[1:]
			continue
		}
		c, err := strconv.ParseUint(rest[1:min(3, len(rest))], 16, 8)
		if err != nil || len(rest) < 3 {
			return nil, fmt.Errorf("in %q a percent sign is not followed by two hexadecimal digits; the sign itself is written %%25, a comma %%2C", text)
		}
		key, rest = append(key, byte(c)), rest[3:]
	}
	return key, nil
}

// Flags are the scheme as the command line of a node has it. Two schemes put every key into the same shard if and only if their flags are equal: nodes compare
// them, and data directories keep them. The form is for ever.
func (s Scheme) Flags() string {
	text := fmt.Sprintf("--initial-shards=%d", s.Shards)
	if s.Shards == 1 {
		return text
	}
	text += " --initial-partition=" + s.Kind.String()
	if len(s.SplitKeys) > 0 {
		text += " --initial-split-keys=" + FormatKeys(s.SplitKeys)
	}
	if s.HashPrefix > 0 {
		text += fmt.Sprintf(" --hash-prefix=%d", s.HashPrefix)
	}
	return text
}
