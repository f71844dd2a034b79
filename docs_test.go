package plugbus_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// debtors are the parts, still to be built, that may owe a proof. The list
// shrinks as they come.
var debtors = []string{"policy", "bridges"}

// TestPitfalls holds docs/pitfalls.md to its word: each pitfall has one row,
// and each row names tests that exist and cite the pitfall.
func TestPitfalls(t *testing.T) {
	t.Parallel()
	var ids []string
	for _, section := range []struct {
		letter string
		last   int
	}{{"H", 16}, {"E", 22}, {"R", 20}, {"D", 19}, {"V", 21}, {"S", 21}, {"L", 12}, {"A", 13}} {
		for n := range section.last {
			ids = append(ids, fmt.Sprintf("%s%d", section.letter, n+1))
		}
	}
	for _, c := range claims(t, "docs/pitfalls.md", ids) {
		c.check(t, true)
	}
}

// TestGuarantees holds docs/guarantees.md to its word: each promise of the
// design has one row, and each row names tests that exist.
func TestGuarantees(t *testing.T) {
	t.Parallel()
	var ids []string
	for n := range 16 {
		ids = append(ids, fmt.Sprint(n+1))
	}
	for _, c := range claims(t, "docs/guarantees.md", ids) {
		c.check(t, false)
	}
}

// TestGuideTable shows that the counterparts in docs/guide-table.md exist. The
// names of a package that holds no code yet are not looked up.
func TestGuideTable(t *testing.T) {
	t.Parallel()
	const name = "docs/guide-table.md"
	exported := exportedNames(repository(t))
	mention := regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*(?:\.[A-Z]\w*)?)`)
	found := 0
	for number, line := range strings.Split(text(t, name), "\n") {
		for _, code := range codeSpans(line) {
			for _, match := range mention.FindAllStringSubmatch(code, -1) {
				names, known := exported[match[1]]
				if !known {
					continue
				}
				found++
				if !names[match[2]] {
					t.Errorf("%s:%d names %s, which does not exist: name what does the work now", name, number+1, match[0])
				}
			}
		}
	}
	if found == 0 {
		t.Errorf("%s names nothing of ours: is it still read rightly?", name)
	}
}

// A claim is one row of a table with the columns id, claim, proof.
type claim struct{ id, text, proof, at string }

// claims reads the tables of a page whose first column is headed "id", and
// asserts that each of the ids has exactly one row.
func claims(t *testing.T, name string, ids []string) []claim {
	t.Helper()
	const head = `columns "id", what is claimed, "proved by / owed by"`
	var rows []claim
	inTable := false
	for number, line := range strings.Split(text(t, name), "\n") {
		cells, at := tableCells(line), fmt.Sprintf("%s:%d", name, number+1)
		switch {
		case len(cells) == 0:
			inTable = false
		case cells[0] == "id":
			inTable = true
			if len(cells) != 3 || cells[2] != "proved by / owed by" {
				t.Errorf("%s: the table has other columns than the %s", at, head)
			}
		case !inTable || strings.Trim(cells[0], "-: ") == "":
		case len(cells) != 3 || cells[1] == "":
			t.Errorf("%s: %q does not fill the %s", at, line, head)
		default:
			rows = append(rows, claim{cells[0], cells[1], cells[2], at})
		}
	}
	seen := make(map[string]string)
	for _, row := range rows {
		if seen[row.id] != "" {
			t.Errorf("%s: %s has a row at %s already", row.at, row.id, seen[row.id])
		}
		if !slices.Contains(ids, row.id) {
			t.Errorf("%s: there is no %q", row.at, row.id)
		}
		seen[row.id] = row.at
	}
	for _, id := range ids {
		if seen[id] == "" {
			t.Errorf("%s has no row for %s: give it one, with the %s", name, id, head)
		}
	}
	return rows
}

// check asserts that the proof is well formed, and that what it names exists. A
// test that cites the id has it in its name, or in a comment of its file. Such
// are the forms of a proof, where "plugbus" is the root package:
//
//	proved by: events: `TestA`, `TestB`; internal/topic: `TestC`
//	owed by: router, bridges
//	proved by: events: `TestA`; owed by: router
func (c claim) check(t *testing.T, cites bool) {
	t.Helper()
	packages := repository(t).packages()
	for i, part := range strings.Split(c.proof, "; ") {
		if owed, ok := strings.CutPrefix(part, "owed by: "); ok {
			for debtor := range strings.SplitSeq(owed, ", ") {
				if !slices.Contains(debtors, debtor) {
					t.Errorf("%s: %s is owed by %q, want one of %q", c.at, c.id, debtor, debtors)
				}
			}
			continue
		}
		proof, begins := strings.CutPrefix(part, "proved by: ")
		dir, tests, ok := strings.Cut(proof, ": ")
		if !ok || begins != (i == 0) {
			t.Errorf("%s: %s has the proof %q, want \"proved by: dir: `TestName`, `TestOther`; dir: `TestName`\" "+
				"or \"owed by: part\"", c.at, c.id, c.proof)
			return
		}
		if dir == "plugbus" {
			dir = "."
		}
		for test := range strings.SplitSeq(tests, ", ") {
			test = strings.Trim(test, "`")
			at := slices.IndexFunc(packages[dir], func(f *goFile) bool { return f.test && f.declares(test) })
			switch {
			case !regexp.MustCompile(`^(Test|Fuzz|Example)\w+$`).MatchString(test) || at < 0:
				t.Errorf("%s: %s is proved by %s in %s, which does not exist: name the test that proves it",
					c.at, c.id, test, dir)
			case cites && !packages[dir][at].cites(c.id, test):
				t.Errorf("%s: %s is proved by %s, but neither its name nor a comment in %s cites %s",
					c.at, c.id, test, packages[dir][at].path, c.id)
			}
		}
	}
}

// cites reports whether the name of the test, or a comment of the file, has
// the id of a pitfall.
func (f *goFile) cites(id, test string) bool {
	if regexp.MustCompile(id + `(\D|$)`).MatchString(test) {
		return true
	}
	cited := regexp.MustCompile(`\b` + id + `\b`)
	return slices.ContainsFunc(f.syntax.Comments, func(c *ast.CommentGroup) bool {
		return cited.MatchString(c.Text())
	})
}

// text returns a page of the repository.
func text(t *testing.T, name string) string {
	t.Helper()
	content, ok := repository(t).texts[name]
	if !ok {
		t.Fatalf("there is no %s: write it; the tests of docs_test.go say what it must hold", name)
	}
	return content
}

// tableCells returns the cells of a line of a Markdown table, nil elsewhere.
func tableCells(line string) []string {
	line, ok := strings.CutPrefix(strings.TrimSpace(line), "|")
	if !ok {
		return nil
	}
	cells := strings.Split(strings.TrimSuffix(line, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

// codeSpans returns what stands between backquotes.
func codeSpans(line string) []string {
	var spans []string
	for i, part := range strings.Split(line, "`") {
		if i%2 == 1 {
			spans = append(spans, part)
		}
	}
	return spans
}

// exportedNames returns, for each package that exports anything, its names, with
// those of fields and methods after the name of their type and a dot. A package
// goes by its own name, the root by plugbus; commands are left out.
func exportedNames(all *tree) map[string]map[string]bool {
	exported := make(map[string]map[string]bool)
	for _, file := range all.files {
		if file.test || within(path.Dir(file.path), "internal/...") || file.syntax.Name.Name == "main" {
			continue
		}
		pkg := file.syntax.Name.Name
		add := func(names ...string) {
			if exported[pkg] == nil {
				exported[pkg] = make(map[string]bool)
			}
			if slices.IndexFunc(names, func(name string) bool { return !token.IsExported(name) }) < 0 {
				exported[pkg][strings.Join(names, ".")] = true
			}
		}
		for _, decl := range file.syntax.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil {
					add(decl.Name.Name)
				} else {
					add(receiver(decl.Recv.List[0].Type), decl.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							add(name.Name)
						}
					case *ast.TypeSpec:
						add(spec.Name.Name)
						for _, member := range members(spec.Type) {
							add(spec.Name.Name, member)
						}
					}
				}
			}
		}
	}
	return exported
}

// receiver returns the name of the type that a method belongs to.
func receiver(expr ast.Expr) string {
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// members returns the names of the fields of a struct, or the methods of an
// interface.
func members(expr ast.Expr) []string {
	var list *ast.FieldList
	switch e := expr.(type) {
	case *ast.StructType:
		list = e.Fields
	case *ast.InterfaceType:
		list = e.Methods
	default:
		return nil
	}
	var names []string
	for _, field := range list.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// TestReadme holds the README to the program that it shows, and to the commands
// that it names.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme := text(t, "README.md")
	program, err := os.ReadFile("examples/minimal/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(readme, "```go\n"+string(program)+"```\n") {
		t.Error("README.md does not show examples/minimal/main.go as it is: copy it")
	}
	for _, command := range []string{"go run ./examples/quickstart", "go test work"} {
		if !strings.Contains(readme, "\n    "+command+"\n") {
			t.Errorf("README.md does not name the command %q", command)
		}
	}
}
