package events

import (
	"path"
	"runtime"
	"strconv"
	"strings"
)

// callSite returns where the plugin called the bus: the file as its package
// names it, and the line. Where the code was built is nobody's business.
func callSite() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		pkg := packageOf(frame.Function)
		if more && (pkg == ownPackage || pkg == hubPackage) {
			continue
		}
		return pkg + "/" + path.Base(frame.File) + ":" + strconv.Itoa(frame.Line)
	}
}

// A call of a plugin passes through these packages on its way to the bus.
const (
	ownPackage = "github.com/plugbus/plugbus/events"
	hubPackage = "github.com/plugbus/plugbus/hub"
)

// packageOf returns the package of a function, such as
// example.com/host/indexer.(*Indexer).Start.
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	if dot := strings.IndexByte(function[slash:], '.'); dot >= 0 {
		return function[:slash+dot]
	}
	return function
}
