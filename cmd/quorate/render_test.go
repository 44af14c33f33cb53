package main

import (
	"strings"
	"testing"
)

func TestTableWithWideCell(t *testing.T) {
	wide := strings.Repeat("k", cellRunes+5)
	var out strings.Builder
	if err := table(&out, []string{"KEY", "REVISION"}, [][]string{{"é", "1"}, {wide, "2"}, {"b", ""}}); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat(" ", cellRunes-1)
	want := "KEY" + pad[:cellRunes-3] + "  REVISION\né" + pad + "  1\n" + wide + "  2\nb\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
