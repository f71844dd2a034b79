package events

import (
	"runtime"
	"strconv"
	"strings"
)

// ownModule begins the functions of plugbus itself, which are not where a
// plugin subscribed.
const ownModule = "github.com/plugbus/plugbus/"

// callSite returns where the plugin called the bus, as file:line.
func callSite() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if !isOwn(frame.Function) || !more {
			return frame.File + ":" + strconv.Itoa(frame.Line)
		}
	}
}

// isOwn reports whether a function belongs to the packages that a call passes
// through on its way to the bus.
func isOwn(function string) bool {
	rest, ok := strings.CutPrefix(function, ownModule)
	return ok && (strings.HasPrefix(rest, "events.") || strings.HasPrefix(rest, "hub."))
}
