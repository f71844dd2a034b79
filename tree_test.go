package plugbus_test

import (
	"bytes"
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A goFile is one parsed file of the repository.
type goFile struct {
	path   string // from the root, with slashes
	module string // the directory of its go.mod
	test   bool   // its name ends in _test.go
	lines  int
	syntax *ast.File
	fset   *token.FileSet
}

// A tree is the repository as it lies on disk.
type tree struct {
	files []*goFile         // sorted by path
	texts map[string]string // every text file by its path
}

// readTree reads the repository once for all tests. It is a cache of what does
// not change while they run.
var readTree = sync.OnceValues(func() (*tree, error) {
	all := &tree{texts: make(map[string]string)}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(name)
		if err == nil && !bytes.Contains(content, []byte{0}) {
			all.texts[filepath.ToSlash(name)] = string(content)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	for _, name := range slices.Sorted(maps.Keys(all.texts)) {
		if path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
			continue
		}
		syntax, err := parser.ParseFile(fset, name, all.texts[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		all.files = append(all.files, &goFile{
			path:   name,
			module: all.moduleOf(path.Dir(name)),
			test:   strings.HasSuffix(name, "_test.go"),
			lines:  strings.Count(all.texts[name], "\n"),
			syntax: syntax,
			fset:   fset,
		})
	}
	return all, nil
})

func repository(t *testing.T) *tree {
	t.Helper()
	all, err := readTree()
	require.NoError(t, err)
	return all
}

// moduleOf returns the nearest directory at or above dir that has a go.mod.
func (all *tree) moduleOf(dir string) string {
	for dir != "." && all.texts[dir+"/go.mod"] == "" {
		dir = path.Dir(dir)
	}
	return dir
}

// packages returns the files of each directory that has any.
func (all *tree) packages() map[string][]*goFile {
	packages := make(map[string][]*goFile)
	for _, file := range all.files {
		dir := path.Dir(file.path)
		packages[dir] = append(packages[dir], file)
	}
	return packages
}

// ownImports returns the directories of our packages that the file imports.
func (f *goFile) ownImports() []string {
	var dirs []string
	for _, spec := range f.syntax.Imports {
		if target, err := strconv.Unquote(spec.Path.Value); err == nil && within(target, modulePath+"/...") {
			dirs = append(dirs, cmp.Or(strings.TrimPrefix(target[len(modulePath):], "/"), "."))
		}
	}
	return dirs
}

// importsUnder reports whether the file imports a package of the module.
func (f *goFile) importsUnder(module string) bool {
	return slices.ContainsFunc(f.syntax.Imports, func(spec *ast.ImportSpec) bool {
		target, err := strconv.Unquote(spec.Path.Value)
		return err == nil && within(target, module+"/...")
	})
}

// uses reports whether the file names the member of a package.
func (f *goFile) uses(pkg, member string) bool {
	found := false
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok && selector.Sel.Name == member {
			of, ok := selector.X.(*ast.Ident)
			found = found || ok && of.Name == pkg
		}
		return !found
	})
	return found
}

// declares reports whether the file has the function.
func (f *goFile) declares(function string) bool {
	return slices.ContainsFunc(f.syntax.Decls, func(d ast.Decl) bool {
		declared, ok := d.(*ast.FuncDecl)
		return ok && declared.Recv == nil && declared.Name.Name == function
	})
}

// startsGoroutine returns where the file starts a goroutine, or "".
func (f *goFile) startsGoroutine() string {
	where := ""
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			where = f.at(n)
		case *ast.CallExpr: // sync.WaitGroup.Go, time.AfterFunc, context.AfterFunc
			called, ok := n.Fun.(*ast.SelectorExpr)
			if ok && (called.Sel.Name == "Go" && len(n.Args) == 1 || called.Sel.Name == "AfterFunc") {
				where = f.at(n)
			}
		}
		return where == ""
	})
	return where
}

func (f *goFile) at(n ast.Node) string { return f.fset.Position(n.Pos()).String() }
