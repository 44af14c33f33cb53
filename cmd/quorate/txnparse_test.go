package main

import (
	"strings"
	"testing"
)

func TestParseTxn(t *testing.T) {
	for _, c := range []struct {
		lines string
		want  string // conditions, then operations, else operations
	}{
		{"then get a", "0 1 0"},
		{"if\nthen\nelse\n del a", "0 0 1"},
		{"if value(a)=b\nversion(prefix \"\") != 1\nlease(k) = ff\n mod(\"prefix\") < 3\ncreate(prefix) > 1\nthen put a b\nput \"if\" \"then\"\nelse\nget prefix x # all\n", "5 2 1"},
		{"then\nput k v lease=7f\ncommit\nrubbish ! (", "0 1 0"},
		{"\"if\" is quoted", "a transaction begins with"},
		{"", "the transaction is empty"},
		{"if a", "line 1: a condition looks like"},
		{"if value(a) ! b", "\"!\" is no sign of comparison; there are = != < >"},
		{"if version(a) == 0", "line 1: \"==\" is no sign of comparison; there are = != < >"},
		{"if version(a) >= 1", "\">=\" is no sign of comparison"},
		{"if version(a) <> 1", "\"<>\" is no sign of comparison"},
		{"then put a Zm9v==", "needs double quotes"},
		{"then put a \"Zm9v==\"", "0 1 0"},
		{"if size(a) = 1", "\"size\" cannot be compared"},
		{"if version(a) = x", "\"x\" is not a number"},
		{"if value(a) = ", "a condition looks like"},
		{"if value(a) = (", "a condition looks like"},
		{"if value() = b", "a condition looks like"},
		{"if value(a = b", "a condition looks like"},
		{"then get a\nif value(a) = b", "line 2: \"if\" comes after \"then\""},
		{"then get a\nthen get b", "comes after"},
		{"then move a b", "\"move\" is not an operation"},
		{"then put a", "it looks like put KEY VALUE"},
		{"then put a b=c", "it looks like put KEY VALUE"},
		{"then put \"\" b", "the key is empty"},
		{"then get", "it looks like get KEY"},
		{"then get \"\"", "the key is empty"},
		{"then put a b lease=zz", "is not a lease ID"},
		{"then put a \"b", "a quote is not closed"},
	} {
		parsed, err := parseTxn(strings.NewReader(c.lines), false, nil)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: got error %v, want %q", c.lines, err, c.want)
			}
			continue
		}
		got := strings.Join([]string{
			digit(len(parsed.conditions)), digit(len(parsed.operations["then"])), digit(len(parsed.operations["else"])),
		}, " ")
		if got != c.want {
			t.Errorf("%q: got %s, want %s", c.lines, got, c.want)
		}
	}
}

func digit(n int) string { return string(rune('0' + n)) }

func TestParsedTxnMeaning(t *testing.T) {
	parsed, err := parseTxn(strings.NewReader(`if value("a b") != "x\ny"`+"\nmod(prefix \"\") < 7\nlease(k) = 1f\nthen del prefix p\nput 6b 76 lease=2a"), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := parsed.conditions[0].GetCompare(), parsed.conditions[1].GetCompare(), parsed.conditions[2].GetCompare()
	if string(first.Key) != "a b" || string(first.GetValue()) != "x\ny" || first.Result.String() != "NOT_EQUAL" {
		t.Errorf("first condition: %v", first)
	}
	if string(second.Key) != "\x00" || string(second.RangeEnd) != "\x00" || second.GetModRevision() != 7 {
		t.Errorf("second condition: %v", second)
	}
	if third.GetLease() != 0x1f {
		t.Errorf("third condition: %v", third)
	}
	del, put := parsed.operations["then"][0], parsed.operations["then"][1]
	if !del.IsDelete() || string(del.RangeBytes()) != "q" {
		t.Errorf("delete: %v", del)
	}
	if !put.IsPut() || string(put.ValueBytes()) != "76" {
		t.Errorf("put: %v", put)
	}
	hexadecimal, err := parseTxn(strings.NewReader("then put 6b 76"), true, nil)
	if err != nil || string(hexadecimal.operations["then"][0].ValueBytes()) != "v" {
		t.Errorf("with --hex: %v", err)
	}
	if _, err := parseTxn(strings.NewReader("then put key 76"), true, nil); err == nil {
		t.Error("with --hex: text was accepted")
	}
}

func TestPrompt(t *testing.T) {
	var asked []string
	if _, err := parseTxn(strings.NewReader("if\nthen\nget a\ncommit\n"), false, func(section string) { asked = append(asked, section) }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked, ","); got != ",if,then,then" {
		t.Errorf("prompts: %s", got)
	}
}

func FuzzParseTxn(f *testing.F) {
	f.Add("if value(a) = b\nthen put a \"x\\n\" lease=1\nelse del prefix b", false)
	f.Add("if version(prefix \"\") != 0\nthen get 00", true)
	f.Fuzz(func(t *testing.T, lines string, asHex bool) {
		parsed, err := parseTxn(strings.NewReader(lines), asHex, nil)
		if err != nil {
			return
		}
		for _, operations := range parsed.operations {
			for _, operation := range operations {
				if !operation.IsGet() && !operation.IsPut() && !operation.IsDelete() {
					t.Fatalf("%q: an operation that is none", lines)
				}
			}
		}
	})
}
