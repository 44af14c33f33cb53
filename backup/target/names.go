package target

import (
	"fmt"
	"strings"
)

const (
	// MaxNameBytes bounds a name.
	MaxNameBytes = 512
	// MaxPartBytes bounds what is between two slashes of a name: file systems take 255 bytes, and a temporary file has a longer name.
	MaxPartBytes = 200
)

// CheckName tells what is wrong with the name of an object (ErrName). Names are parts of a-z, A-Z, 0-9, '.', '_' and '-' with slashes between them; no
// part is empty, "." or "..".
func CheckName(name string) error {
	if len(name) > MaxNameBytes {
		return fmt.Errorf("%w: it has %d bytes of at most %d", ErrName, len(name), MaxNameBytes)
	}
	for part := range strings.SplitSeq(name, "/") {
		if err := checkPart(part); err != nil {
			return fmt.Errorf("%w: %w", ErrName, err)
		}
		if part == "" {
			return fmt.Errorf("%w: it has an empty part", ErrName)
		}
	}
	return nil
}

// CheckPrefix tells what is wrong with the beginning of names (ErrName); it may end anywhere.
func CheckPrefix(prefix string) error {
	folder, last := "", prefix
	if slash := strings.LastIndexByte(prefix, '/'); slash >= 0 {
		folder, last = prefix[:slash], prefix[slash+1:]
		if err := CheckName(folder); err != nil {
			return err
		}
	}
	if last == "." || last == ".." {
		return nil // names may go on from here
	}
	if err := checkPart(last); err != nil {
		return fmt.Errorf("%w: %w", ErrName, err)
	}
	return nil
}

// checkPart tells what is wrong with a part of a name; an empty one is for the caller to judge.
func checkPart(part string) error {
	if part == "." || part == ".." {
		return fmt.Errorf("%q is no part of a name", part)
	}
	if len(part) > MaxPartBytes {
		return fmt.Errorf("a part of it has %d bytes of at most %d", len(part), MaxPartBytes)
	}
	for i := range len(part) {
		if c := part[i]; !isNameByte(c) {
			return fmt.Errorf("it has %q; there may be letters a to z and A to Z, digits, and . _ - /", c)
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}
