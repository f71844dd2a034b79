// Command testsum reads what "go test -json" prints, shows what a person wants
// to read of it, and ends with how many tests passed, failed and were skipped.
//
//	go test -json work | testsum -strict
//
// It fails if a test or a package failed. With -strict it also fails if a test
// was skipped, unless its name, such as path/to/package.TestName, matches the
// regular expression given by -allow.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

func main() {
	strict := flag.Bool("strict", false, "fail if a test was skipped")
	allow := flag.String("allow", "^$", "`regexp` of tests that may be skipped")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *strict, *allow); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

// An event is what matters here of a line of "go test -json".
type event struct{ Action, Package, Test, Output string }

// A key names a test, or a package where test is empty.
type key struct{ pkg, test string }

// A summary is what was read so far.
type summary struct {
	to                      *bufio.Writer
	output                  map[key][]string // of tests and packages that have not ended
	passed, failed, skipped int
	failedIn                map[string]bool // packages with a failed test
	notAllowed              []string        // skipped tests that should have run
	allowed                 *regexp.Regexp
}

func run(from io.Reader, to io.Writer, strict bool, allow string) error {
	allowed, err := regexp.Compile(allow)
	if err != nil {
		return fmt.Errorf("-allow: %w", err)
	}
	s := &summary{to: bufio.NewWriter(to), output: make(map[key][]string), failedIn: make(map[string]bool), allowed: allowed}
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				e = event{Action: "build-output", Output: string(line)}
			}
			s.add(e)
			if err := s.to.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(s.to, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	if err := s.to.Flush(); err != nil {
		return err
	}
	switch {
	case s.failed > 0:
		return fmt.Errorf("%d failed", s.failed)
	case s.passed == 0:
		return errors.New("no test ran")
	case strict && len(s.notAllowed) > 0:
		return fmt.Errorf("these were skipped, and must not be: %s", strings.Join(s.notAllowed, ", "))
	}
	return nil
}

func (s *summary) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.to, e.Output)
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			s.output[k] = append(s.output[k], e.Output)
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e)
		}
		delete(s.output, k)
	}
}

func (s *summary) endTest(e event) {
	name := e.Package + "." + e.Test
	switch e.Action {
	case "pass":
		s.passed++
		return
	case "fail":
		s.failed++
		s.failedIn[e.Package] = true
		fmt.Fprintln(s.to, "failed:", name)
	case "skip":
		s.skipped++
		if !s.allowed.MatchString(name) {
			s.notAllowed = append(s.notAllowed, name)
		}
		fmt.Fprintln(s.to, "skipped:", name)
	}
	s.print(key{e.Package, e.Test})
}

// endPackage prints the closing line of a package that passed. Of one that
// failed it prints everything, with what tests said that never ended, as in a
// crash; if no test of it failed, the package counts as one that did.
func (s *summary) endPackage(e event) {
	if lines := s.output[key{e.Package, ""}]; e.Action != "fail" && len(lines) > 0 {
		fmt.Fprint(s.to, lines[len(lines)-1])
		return
	}
	if e.Action != "fail" {
		return
	}
	for k := range s.output {
		if k.pkg == e.Package && k.test != "" {
			fmt.Fprintln(s.to, "did not end:", e.Package+"."+k.test)
			s.print(k)
		}
	}
	s.print(key{e.Package, ""})
	if !s.failedIn[e.Package] {
		s.failed++
	}
}

func (s *summary) print(k key) {
	fmt.Fprint(s.to, strings.Join(s.output[k], ""))
}
