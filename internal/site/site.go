// Package site finds the place in a plugin's code from which it called us, for
// the host to read in failures, leaks and snapshots.
package site

import (
	"path"
	"runtime"
	"strconv"
	"strings"
)

// maxFrames bounds how far up the stack we look. No call of a plugin passes
// through so many of ours.
const maxFrames = 16

// Caller returns where the plugin called us: the file as its package names it,
// and the line, such as example.com/host/indexer/start.go:17. Where the code was
// built is nobody's business.
func Caller() string {
	var pcs [maxFrames]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	return outside(frames.Next)
}

// outside returns the first place that is not ours, or the last one if all are.
func outside(next func() (runtime.Frame, bool)) string {
	for {
		frame, more := next()
		pkg := packageOf(frame.Function)
		if more && isOurs(pkg) {
			continue
		}
		return pkg + "/" + path.Base(frame.File) + ":" + strconv.Itoa(frame.Line)
	}
}

// isOurs reports whether a call of a plugin passes through the package on its
// way to a mechanism.
func isOurs(pkg string) bool {
	part, ours := strings.CutPrefix(pkg, "github.com/plugbus/plugbus/")
	if !ours {
		return false
	}
	switch part {
	case "events", "router", "store", "discovery", "hub":
		return true
	}
	return false
}

// packageOf returns the package of a function, such as
// example.com/host/indexer.(*Indexer).Start.
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	if dot := strings.IndexByte(function[slash:], '.'); dot >= 0 {
		return function[:slash+dot]
	}
	return function
}
