package plugbus_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rules of the house, as tests. They read the source of every module of the
// repository; a failure says what to do. CONTRIBUTING.md says why.

const modulePath = "github.com/plugbus/plugbus"

// A floor says what the packages of one place may import of ours. A place is a
// directory, or a directory and all below it where it ends in "/...".
type floor struct {
	place   string
	imports []string
}

// floors is the house from bottom to top; docs/design.md has the picture. The
// first place that a package is in holds.
var floors = func() []floor {
	base := []string{".", "internal/..."}
	mechanism := []string{"events", "router", "store", "store/disk", "discovery"}
	parts := slices.Concat(base, mechanism, []string{"audit", "security"})
	aboveHub := append(slices.Clip(parts), "hub")
	return []floor{
		{"internal/chain", nil},
		{".", []string{"internal/chain"}},
		{"internal/...", base},

		{"audit", base},
		{"security", append(slices.Clip(base), "audit")},

		{"events", base},
		{"router", base},
		{"store", base},
		{"store/disk", append(slices.Clip(base), "store")},
		{"store/storetest", append(slices.Clip(base), "store")},
		{"discovery", base},

		{"hub", parts},
		{"hub/hubtest", aboveHub},
		{"hub/internal/...", aboveHub},
		{"bridge/...", aboveHub},
		{"inspect/...", aboveHub},
		{"cmd/...", aboveHub},

		{"examples/...", []string{"..."}},
		{"bench/...", []string{"..."}},
		{"tools/...", nil},
	}
}()

// A dependency is a module that was chosen for a purpose.
type dependency struct {
	module    string
	testsOnly bool
}

// dependencies are the modules that the root module may require, the light ones
// that every host inherits. Those for tests stay out of the library.
var dependencies = []dependency{
	{"github.com/Masterminds/semver/v3", false},
	{"github.com/asaskevich/EventBus", false},
	{"github.com/google/uuid", false},
	{"github.com/hashicorp/golang-lru/v2", false},
	{"github.com/santhosh-tekuri/jsonschema/v6", false},
	{"github.com/tidwall/btree", false},
	{"go.etcd.io/bbolt", false},
	{"golang.org/x/time", false},
	{"github.com/anishathalye/porcupine", true},
	{"github.com/stretchr/testify", true},
	{"go.uber.org/goleak", true},
	{"pgregory.net/rapid", true},
}

// indirect are the modules that these bring along.
var indirect = map[string]string{
	"go.yaml.in/yaml/v3": "testify",
	"golang.org/x/sys":   "bbolt",
	"golang.org/x/text":  "jsonschema",
}

func TestFloors(t *testing.T) {
	t.Parallel()
	for dir, files := range repository(t).packages() {
		at := slices.IndexFunc(floors, func(f floor) bool { return within(dir, f.place) })
		if at < 0 {
			t.Errorf("package %s is on no floor: give it a line in the table of repo_test.go, "+
				"and its place in docs/design.md", dir)
			continue
		}
		for _, file := range files {
			for _, target := range file.ownImports() {
				if mayImport(floors[at], target) || file.test && (target == dir || isTestPackage(target)) {
					continue
				}
				t.Errorf("%s imports %s, which is not below it; %s may import only %q: "+
					"pass in a small function or interface from above, or move the code down",
					file.path, target, dir, floors[at].imports)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	t.Parallel()
	for dir, files := range repository(t).packages() {
		var name string
		var commented []string
		for _, file := range files {
			if file.test {
				continue
			}
			name = file.syntax.Name.Name
			if path.Base(file.path) == "doc.go" && len(file.syntax.Decls) > 0 {
				t.Errorf("%s holds code: it is for the package comment alone", file.path)
			}
			doc := file.syntax.Doc.Text()
			if doc == "" {
				continue
			}
			commented = append(commented, file.path)
			want := "Package " + name + " "
			if name == "main" {
				want = "Command " + path.Base(dir) + " "
			}
			if !strings.HasPrefix(doc, want) {
				t.Errorf("%s: the package comment begins with %q, want %q", file.path, firstWords(doc), want)
			}
			home := []string{"doc.go", name + ".go", path.Base(dir) + ".go"}
			if !slices.Contains(home, path.Base(file.path)) {
				t.Errorf("%s: the package comment belongs into doc.go", file.path)
			}
		}
		if name != "" && len(commented) != 1 {
			t.Errorf("package %s has %d package comments %q: write one, in %s",
				dir, len(commented), commented, path.Join(dir, "doc.go"))
		}
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	required := requirements(t, "go.mod")
	for _, module := range required {
		chosen := slices.ContainsFunc(dependencies, func(d dependency) bool { return d.module == module })
		if !chosen && indirect[module] == "" {
			t.Errorf("go.mod requires %s, which every host would inherit: put what needs it into a module of its own, "+
				"or give it a line in repo_test.go and a reason in docs/decisions", module)
		}
	}
	for _, dependency := range dependencies {
		imported := 0
		for _, file := range repository(t).files {
			if file.module != "." || !file.importsUnder(dependency.module) {
				continue
			}
			forTests := file.test || isTestPackage(path.Dir(file.path))
			if dependency.testsOnly && !forTests {
				t.Errorf("%s imports %s, which is for tests only", file.path, dependency.module)
			}
			if dependency.testsOnly == forTests {
				imported++
			}
		}
		if imported == 0 || !slices.Contains(required, dependency.module) {
			t.Errorf("%s is in the list of repo_test.go, but nothing uses it: use it for what it was chosen for, "+
				"or take it off the list and out of go.mod", dependency.module)
		}
	}
}

func TestNoSleepInTests(t *testing.T) {
	t.Parallel()
	for _, file := range repository(t).files {
		if file.test && file.uses("time", "Sleep") {
			t.Errorf("%s sleeps: let testing/synctest hold the clock, and wait with synctest.Wait, "+
				"or for a channel", file.path)
		}
	}
}

func TestNothingIsLeftOpen(t *testing.T) {
	t.Parallel()
	mark := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	for _, file := range repository(t).files {
		for _, group := range file.syntax.Comments {
			if found := mark.FindString(group.Text()); found != "" {
				t.Errorf("%s: a %s: do it, or state the limit in the docs of what has it", file.at(group), found)
			}
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	t.Parallel()
	const limit = 500
	for _, file := range repository(t).files {
		if !file.test && file.lines > limit {
			t.Errorf("%s has %d lines, want at most %d: one file, one idea", file.path, file.lines, limit)
		}
	}
}

func TestNoMachinePaths(t *testing.T) {
	t.Parallel()
	absolute := regexp.MustCompile(`(?:^|[\s"'=(:` + "`" + `])(/(?:home|root|Users|tmp|work|mnt|private)/[\w./-]+|[A-Z]:\\\\?Users)`)
	for name, text := range repository(t).texts {
		for number, line := range strings.Split(text, "\n") {
			if found := absolute.FindStringSubmatch(line); found != nil {
				t.Errorf("%s:%d names a path of one machine, %q: use a relative path, t.TempDir or mktemp",
					name, number+1, found[1])
			}
		}
	}
}

// TestGoroutinesAreWatched asks for goleak wherever a goroutine may stay
// behind: in packages that start one, or that use such a package of ours.
func TestGoroutinesAreWatched(t *testing.T) {
	t.Parallel()
	packages := repository(t).packages()
	starts := make(map[string]string) // why a package may leave a goroutine behind
	for _, file := range repository(t).files {
		if where := file.startsGoroutine(); where != "" && !file.test {
			starts[path.Dir(file.path)] = where
		}
	}
	for known := -1; known < len(starts); {
		known = len(starts)
		for _, file := range repository(t).files {
			for _, target := range file.ownImports() {
				if dir := path.Dir(file.path); !file.test && starts[target] != "" && starts[dir] == "" {
					starts[dir] = file.path + " uses " + target
				}
			}
		}
	}
	for dir, why := range starts {
		watched := slices.ContainsFunc(packages[dir], func(f *goFile) bool {
			return f.test && f.declares("TestMain") && f.uses("goleak", "VerifyTestMain")
		})
		if !watched && packages[dir][0].syntax.Name.Name != "main" {
			t.Errorf("package %s may leave goroutines behind (%s): "+
				"add a TestMain that calls goleak.VerifyTestMain", dir, why)
		}
	}
}

// requirements returns the modules that a go.mod requires.
func requirements(t *testing.T, name string) []string {
	t.Helper()
	var modules []string
	line := regexp.MustCompile(`(?m)^(?:require )?\s*(\S+) v\S+(?: // indirect)?$`)
	for _, match := range line.FindAllStringSubmatch(repository(t).texts[name], -1) {
		modules = append(modules, match[1])
	}
	require.NotEmpty(t, modules, "%s requires nothing: is it still read rightly?", name)
	return modules
}

// within reports whether dir is at the place.
func within(dir, place string) bool {
	below, all := strings.CutSuffix(place, "...")
	return dir == place || all && strings.HasPrefix(dir+"/", below)
}

// mayImport reports whether the packages of a floor may import target. Who may
// import an internal directory further up is the compiler's affair.
func mayImport(f floor, target string) bool {
	return strings.Contains(target, "/internal/") ||
		slices.ContainsFunc(f.imports, func(place string) bool { return within(target, place) })
}

// isTestPackage reports whether the package at dir is made for tests, such as
// hub/hubtest. Tests of every floor may use these.
func isTestPackage(dir string) bool { return strings.HasSuffix(dir, "test") }

func firstWords(s string) string {
	words := strings.Fields(s)
	return strings.Join(words[:min(2, len(words))], " ")
}
