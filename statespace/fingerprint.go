package statespace

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
)

// A core is told apart from another by everything it remembers: its memory is walked through, unexported
// fields included. Two cores with the same fingerprint, on logs with the same content, do the same from here on.

var seed = maphash.MakeSeed()

// Fingerprinter tells values apart, but for what types are skipped: what is no part of what a core remembers, or is fingerprinted by its
// content elsewhere.
type Fingerprinter struct{ Skipped []reflect.Type }

// Of returns a hash of everything that is reachable from the values. It differs from process to process.
func (f Fingerprinter) Of(values ...any) uint64 {
	w := walker{skipped: f.Skipped}
	for _, v := range values {
		w.walk(reflect.ValueOf(v), 0)
	}
	return Hash(w.out)
}

// Hash returns a hash of the bytes, from the same function as fingerprints.
func Hash(b []byte) uint64 { return maphash.Bytes(seed, b) }

// walker writes values down in a form that is the same exactly for equal values.
type walker struct {
	out     []byte
	skipped []reflect.Type
}

func (w *walker) number(n uint64) { w.out = binary.AppendUvarint(w.out, n) }

// maxDepth is more than any core nests; a cycle would reach it.
const maxDepth = 60

func (w *walker) walk(v reflect.Value, depth int) {
	if depth > maxDepth {
		panic(fmt.Sprintf("statespace: the memory of a core holds a cycle at %s", v.Type()))
	}
	switch v.Kind() {
	case reflect.Invalid, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		w.number(0)
	case reflect.Bool:
		if v.Bool() {
			w.number(1)
		} else {
			w.number(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		w.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		w.number(v.Uint())
	case reflect.String:
		w.number(uint64(v.Len()))
		w.out = append(w.out, v.String()...)
	case reflect.Slice, reflect.Array:
		w.list(v, depth)
	case reflect.Struct:
		w.fields(v, depth)
	case reflect.Map:
		w.table(v, depth)
	case reflect.Pointer:
		if v.IsNil() || slices.Contains(w.skipped, v.Type().Elem()) {
			w.number(0)
			return
		}
		w.number(1)
		w.walk(v.Elem(), depth+1)
	case reflect.Interface:
		if v.IsNil() {
			w.number(0)
			return
		}
		w.number(1)
		w.walk(v.Elem(), depth+1)
	default:
		panic(fmt.Sprintf("statespace: no fingerprint for %s", v.Type()))
	}
}

func (w *walker) list(v reflect.Value, depth int) {
	w.number(uint64(v.Len()))
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		w.out = append(w.out, v.Bytes()...)
		return
	}
	for i := range v.Len() {
		w.walk(v.Index(i), depth+1)
	}
}

func (w *walker) fields(v reflect.Value, depth int) {
	t := v.Type()
	if strings.HasPrefix(t.PkgPath(), "google.golang.org/protobuf/") {
		return // bookkeeping of the encoder
	}
	for i := range v.NumField() {
		w.walk(v.Field(i), depth+1)
	}
}

func (w *walker) table(v reflect.Value, depth int) {
	w.number(uint64(v.Len()))
	var rows []string
	for iterator := v.MapRange(); iterator.Next(); {
		row := walker{skipped: w.skipped}
		row.walk(iterator.Key(), depth+1)
		row.walk(iterator.Value(), depth+1)
		rows = append(rows, string(row.out))
	}
	slices.Sort(rows)
	for _, row := range rows {
		w.out = append(w.out, row...)
	}
}
