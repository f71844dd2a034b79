package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// A File is a text file, and the payload of "files.read".
type File struct {
	Path string
	Text string
}

// An input is what the tour reads.
type input struct {
	from    string // in words
	files   []File
	bytes   int
	leftOut int // files beyond the bounds
}

// String says what there is to read.
func (in *input) String() string {
	s := fmt.Sprintf("%s, %s text files with %s bytes", in.from, figure(len(in.files)), figure(in.bytes))
	if in.leftOut > 0 {
		s += fmt.Sprintf(" (left out, as too large or too many: %s)", figure(in.leftOut))
	}
	return s
}

// The bounds of the input.
const (
	maxFiles      = 2_000
	maxFileBytes  = 1 << 20
	maxInputBytes = 8 << 20
)

// errNoText is the error of a file that holds something else.
var errNoText = errors.New("this is no text in UTF-8")

const module = "github.com/plugbus/plugbus"

// readInput reads the files and folders that are named, or the repository.
func readInput(names []string) (*input, error) {
	in := &input{from: strings.Join(names, ", ")}
	if len(names) == 0 {
		root, err := repository()
		if err != nil {
			return nil, err
		}
		in.from = "this repository"
		if err := in.folder(root, root); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("cannot read %q: %w", name, err)
		case info.IsDir():
			err = in.folder(name, "")
		default:
			err = in.file(name, "")
		}
		if err != nil {
			return nil, err
		}
	}
	if len(in.files) == 0 {
		return nil, fmt.Errorf("nothing to read in %s: name text files of up to 1 MiB, or folders with files that end in %s", in.from, strings.Join(endings(), ", "))
	}
	return in, nil
}

func endings() []string { return []string{".go", ".json", ".md", ".txt"} }

// folder reads the text files in a folder and all below it. The paths that the
// tour shows begin at base.
func (in *input) folder(root, base string) error {
	return filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		hidden := name != root && strings.HasPrefix(entry.Name(), ".")
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (hidden || entry.Name() == "testdata" || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case hidden || !entry.Type().IsRegular() || !slices.Contains(endings(), filepath.Ext(name)):
			return nil
		}
		if err := in.file(name, base); !errors.Is(err, errNoText) {
			return err
		}
		return nil
	})
}

// file reads a file, unless that is beyond the bounds, or read already.
func (in *input) file(name, base string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if len(in.files) == maxFiles || info.Size() > maxFileBytes || in.bytes+int(info.Size()) > maxInputBytes {
		in.leftOut++
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if base != "" {
		if name, err = filepath.Rel(base, name); err != nil {
			return err
		}
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return fmt.Errorf("cannot use %q: %w", name, errNoText)
	}
	path := filepath.ToSlash(filepath.Clean(name))
	if !slices.ContainsFunc(in.files, func(f File) bool { return f.Path == path }) {
		in.files = append(in.files, File{path, string(text)})
		in.bytes += len(text)
	}
	return nil
}

// repository returns the root of this repository, which is the folder of its
// go.mod, here or further up.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && slices.Contains(strings.Fields(string(content)), module) {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("this is not the repository of plugbus, so there is nothing to read: name some text files or folders")
		}
		dir = up
	}
}
