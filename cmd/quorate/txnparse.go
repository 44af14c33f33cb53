package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// txnHelp is the syntax of the txn command; parseTxn below is its reader.
const txnHelp = `Runs one transaction: if all conditions hold, the operations under "then" are
done, otherwise those under "else"; all at one revision.

  if                                conditions, one per line; none: always
    value(KEY) = VALUE              value, version, create, mod, lease
    version(KEY) > 0                = != < >
    mod(prefix KEY) < 100           holds for every existing key that begins so
  then                              operations, one per line
    put KEY VALUE [lease=ID]
    get KEY                         get prefix KEY
    del KEY                         del prefix KEY
  else
    get KEY
  commit                            or the end of the input

version(KEY) = 0 says that KEY does not exist. A word with spaces or one of
()=!<>"# in it is put in double quotes, with Go's escapes: "two words",
"line\n", "\x00". A # begins a comment. The first statement may stand on the same
line as its keyword. Revisions and versions are decimal, leases hexadecimal.

Lines come from the arguments, one each, or from standard input.`

// txnText collects a transaction while it is read.
type txnText struct {
	conditions []clientv3.Cmp
	operations map[string][]clientv3.Op // by section: then, else
	section    string                   // "", if, then, else
	committed  bool
	hex        bool // keys and values are hexadecimal
}

// parseTxn reads lines until commit or the end. Prompt, which may be nil, is
// called with the section before each line.
func parseTxn(lines io.Reader, asHex bool, prompt func(section string)) (*txnText, error) {
	t := &txnText{operations: map[string][]clientv3.Op{}, hex: asHex}
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(nil, maxTxnLine)
	for number := 1; ; number++ {
		if prompt != nil {
			prompt(t.section)
		}
		if !scanner.Scan() {
			break
		}
		if err := t.line(scanner.Text()); err != nil {
			return nil, usagef("line %d: %w", number, err)
		}
		if t.committed {
			break
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read the transaction: %w", err)
	}
	if t.section == "" {
		return nil, usagef("the transaction is empty; it begins with \"if\" or \"then\"")
	}
	return t, nil
}

// maxTxnLine bounds one line: a value of the largest size a node takes by
// default, with escapes.
const maxTxnLine = 8 << 20

var sectionRank = map[string]int{"if": 1, "then": 2, "else": 3}

func (t *txnText) line(line string) error {
	words, err := splitWords(line)
	if err != nil || len(words) == 0 {
		return err
	}
	if first := words[0]; !first.quoted {
		if first.text == "commit" && len(words) == 1 {
			t.committed = true
			return nil
		}
		if rank := sectionRank[first.text]; rank > 0 {
			if rank <= sectionRank[t.section] {
				return fmt.Errorf("%q comes after %q; the order is if, then, else, each at most once", first.text, t.section)
			}
			t.section = first.text
			words = words[1:]
		}
	}
	if len(words) == 0 {
		return nil
	}
	switch t.section {
	case "":
		return fmt.Errorf("a transaction begins with \"if\" or \"then\", not with %q", words[0].text)
	case "if":
		condition, err := t.condition(words)
		t.conditions = append(t.conditions, condition)
		return err
	}
	operation, err := t.operation(words)
	t.operations[t.section] = append(t.operations[t.section], operation)
	return err
}

// condition reads TARGET ( [prefix] KEY ) RELATION OPERAND.
func (t *txnText) condition(words []word) (clientv3.Cmp, error) {
	const shape = "a condition looks like value(KEY) = VALUE or version(prefix KEY) > 0; each has a line, or an argument, of its own"
	if len(words) < 6 || !words[1].is("(") {
		return clientv3.Cmp{}, fmt.Errorf("%s", shape)
	}
	prefix := words[2].is("prefix") && !words[3].is(")")
	inner := words[2:]
	if prefix {
		inner = words[3:]
	}
	if len(inner) != 4 || !inner[1].is(")") || !inner[2].relation() || inner[0].mark || inner[3].mark {
		return clientv3.Cmp{}, fmt.Errorf("%s. A word with spaces or signs in it needs double quotes", shape)
	}
	key, err := t.bytes(inner[0])
	if err != nil {
		return clientv3.Cmp{}, err
	}
	condition, err := t.compare(words[0].text, key, inner[2].text, inner[3])
	if err == nil && prefix {
		condition = withPrefix(condition, key)
	}
	return condition, err
}

// withPrefix spells out the empty prefix, which the client library would turn
// into a range that ends before every key.
func withPrefix(condition clientv3.Cmp, key string) clientv3.Cmp {
	if key == "" {
		condition.WithKeyBytes([]byte{0})
		return condition.WithRange("\x00")
	}
	return condition.WithPrefix()
}

func (t *txnText) compare(target, key, relation string, operand word) (clientv3.Cmp, error) {
	if target == "value" {
		value, err := t.bytes(operand)
		return clientv3.Compare(clientv3.Value(key), relation, value), err
	}
	targets := map[string]func(string) clientv3.Cmp{
		"version": clientv3.Version, "create": clientv3.CreateRevision, "mod": clientv3.ModRevision, "lease": clientv3.LeaseValue,
	}
	make, known := targets[target]
	if !known {
		return clientv3.Cmp{}, fmt.Errorf("%q cannot be compared; it is value, version, create, mod or lease", target)
	}
	base := 10
	if target == "lease" {
		base = 16
	}
	number, err := strconv.ParseInt(operand.text, base, 64)
	if err != nil {
		return clientv3.Cmp{}, fmt.Errorf("%q is not a number, which %s is compared with", operand.text, target)
	}
	return clientv3.Compare(make(key), relation, number), nil
}

// operation reads put KEY VALUE [lease=ID], get [prefix] KEY or del [prefix] KEY.
func (t *txnText) operation(words []word) (clientv3.Op, error) {
	switch words[0].text {
	case "put":
		return t.put(words[1:])
	case "get":
		key, options, err := t.keys(words[1:])
		return clientv3.OpGet(key, options...), err
	case "del":
		key, options, err := t.keys(words[1:])
		return clientv3.OpDelete(key, options...), err
	}
	return clientv3.Op{}, fmt.Errorf("%q is not an operation; it is put, get or del", words[0].text)
}

// keys reads KEY or prefix KEY.
func (t *txnText) keys(words []word) (string, []clientv3.OpOption, error) {
	var options []clientv3.OpOption
	if len(words) == 2 && words[0].is("prefix") {
		options, words = []clientv3.OpOption{clientv3.WithPrefix()}, words[1:]
	}
	if len(words) != 1 || words[0].mark {
		return "", nil, fmt.Errorf("it looks like get KEY, get prefix KEY, del KEY or del prefix KEY")
	}
	key, err := t.bytes(words[0])
	if err == nil && key == "" && options == nil {
		err = fmt.Errorf("the key is empty")
	}
	return key, options, err
}

func (t *txnText) put(words []word) (clientv3.Op, error) {
	var options []clientv3.OpOption
	if len(words) == 5 && words[2].is("lease") && words[3].is("=") {
		id, err := parseLease(words[4].text)
		if err != nil {
			return clientv3.Op{}, err
		}
		options, words = []clientv3.OpOption{clientv3.WithLease(id)}, words[:2]
	}
	if len(words) != 2 || words[0].mark || words[1].mark {
		return clientv3.Op{}, fmt.Errorf("it looks like put KEY VALUE or put KEY VALUE lease=ID; a word with spaces or signs in it needs double quotes")
	}
	key, err := t.bytes(words[0])
	if err != nil {
		return clientv3.Op{}, err
	}
	if key == "" {
		return clientv3.Op{}, fmt.Errorf("the key is empty")
	}
	value, err := t.bytes(words[1])
	return clientv3.OpPut(key, value, options...), err
}

// bytes gives the bytes a word stands for.
func (t *txnText) bytes(w word) (string, error) {
	return (&app{hex: t.hex}).fromArgument(w.text)
}

// word is one token of a line.
type word struct {
	text   string
	quoted bool // was in quotes: never a keyword
	mark   bool // ( ) or a relation
}

func (w word) is(text string) bool { return !w.quoted && w.text == text }

func (w word) relation() bool { return w.mark && slices.Contains(relations, w.text) }

// relations are the signs of comparison, which relationSigns are made of.
var relations = []string{"=", "!=", "<", ">"}

const relationSigns = "=!<>"

// splitWords cuts a line into words, quoted words, parentheses and relations.
func splitWords(line string) ([]word, error) {
	var words []word
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" || line[0] == '#' {
			return words, nil
		}
		size := 0
		switch {
		case line[0] == '"':
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("a quote is not closed, or an escape in it is not known")
			}
			plain, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, fmt.Errorf("%s is not a quoted word: %w", quoted, err)
			}
			words, size = append(words, word{text: plain, quoted: true}), len(quoted)
		case strings.ContainsRune("()", rune(line[0])):
			words, size = append(words, word{text: line[:1], mark: true}), 1
		case strings.ContainsRune(relationSigns, rune(line[0])):
			// As many as stand together: == and >= are one mistake, not two signs.
			size = len(line) - len(strings.TrimLeft(line, relationSigns))
			if !slices.Contains(relations, line[:size]) {
				return nil, fmt.Errorf("%q is no sign of comparison; there are %s. A word with such signs in it needs double quotes", line[:size], strings.Join(relations, " "))
			}
			words = append(words, word{text: line[:size], mark: true})
		default:
			if size = strings.IndexAny(line, " \t\r()=!<>\"#"); size < 0 {
				size = len(line)
			}
			words = append(words, word{text: line[:size]})
		}
		line = line[size:]
	}
}
