package hubtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// update is the environment variable that makes Golden write the file. It is no
// flag, since a package that is imported should not give the test binary one.
const update = "PLUGBUS_UPDATE"

// Golden compares the table with a file, such as "testdata/permissions.golden",
// and fails the test with each cell that differs and the rule behind it. With
// PLUGBUS_UPDATE=1 in the environment it writes the file instead:
//
//	PLUGBUS_UPDATE=1 go test ./...
//
// Read the difference that version control then shows as you would read code.
func (m *Matrix) Golden(tb testing.TB, path string) {
	tb.Helper()
	got := m.String()
	if os.Getenv(update) == "1" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			tb.Fatalf("hubtest: write the golden file: %v", err)
		}
		tb.Logf("hubtest: wrote %s", path)
		return
	}
	content, err := os.ReadFile(path)
	want := strings.ReplaceAll(string(content), "\r\n", "\n") // As git may check it out.
	switch {
	case errors.Is(err, fs.ErrNotExist):
		tb.Errorf("hubtest: there is no %s; run the test with %s=1 to write it:\n%s", path, update, got)
	case err != nil:
		tb.Errorf("hubtest: read the golden file: %v", err)
	case got != want:
		tb.Errorf("hubtest: the permissions differ from %s:\n%s\nIf they should, run the test with %s=1. The table is now:\n%s",
			path, strings.Join(m.differences(got, want), "\n"), update, got)
	}
}

// differences says in what two tables differ.
func (m *Matrix) differences(got, want string) []string {
	now, then := parseTable(got), parseTable(want)
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf("- "+format, args...)) }
	for _, what := range []struct {
		name      string
		now, then []string
	}{
		{"plugin", now.plugins, then.plugins},
		{"row", now.rows, then.rows},
	} {
		for _, one := range without(what.now, what.then) {
			add("the %s %q is new", what.name, one)
		}
		for _, one := range without(what.then, what.now) {
			add("the %s %q is gone", what.name, one)
		}
	}
	for i, row := range now.rows {
		for _, plugin := range now.plugins {
			got := now.cells[place{row, plugin}]
			if want, had := then.cells[place{row, plugin}]; had && got != want {
				add("%s: %s: got %s, want %s%s", plugin, row, got, want, m.rule(i, plugin))
			}
		}
	}
	if len(all) == 0 {
		add("only in the order, or in the layout")
	}
	return all
}

// rule says by which rule the cell of a row has its answer.
func (m *Matrix) rule(row int, plugin string) string {
	a := m.rows[row]
	if a.isPattern() {
		return ""
	}
	return "; the rule: " + m.policy.Explain(plugin, a.verb, a.object).Rule
}

// without returns what of all is not in some.
func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// A table is the text of a matrix, read back.
type table struct {
	plugins, rows []string // a row goes by its verb and object
	cells         map[place]string
}

type place struct{ row, plugin string }

func parseTable(text string) table {
	t := table{cells: map[place]string{}}
	for line := range strings.Lines(text) {
		switch words := strings.Fields(line); {
		case len(words) < 2:
		case t.plugins == nil:
			t.plugins = words[2:]
		default:
			row := words[0] + " " + words[1]
			t.rows = append(t.rows, row)
			for i, plugin := range t.plugins[:min(len(t.plugins), len(words)-2)] {
				t.cells[place{row, plugin}] = words[i+2]
			}
		}
	}
	return t
}
