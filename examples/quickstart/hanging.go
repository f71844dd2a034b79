package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// hanging has a handler hang, and its caller go on.
func (t *tour) hanging(ctx context.Context) error {
	const patience = time.Second / 2
	t.say(`The printer jams. Its handler does not heed its context, and Go cannot end it. The
student waits for it, for %v at most, and gets:
`, patience)
	mend := sync.OnceFunc(func() { close(t.printer.mended) })
	defer mend()
	_, err := t.student.hub.Send(ctx, "printer", "print.jam", nil, router.Timeout(patience))
	t.quote(fmt.Sprint(err))
	t.say("")
	lost, ok := errors.AsType[*router.DeliveryError](err)
	t.check(ok && errors.Is(err, context.DeadlineExceeded) && lost.Started && lost.Outcome == plugbus.Abandoned, "the student was released, and knows that the handler had started")
	leaks := t.hub.Leaks()
	t.check(len(leaks) == 1 && leaks[0].Plugin == "printer", "the host knows who hangs: %s", leakNames(leaks))
	mend()
	if _, err := t.printed(ctx); err != nil {
		return err
	}
	info, _ := t.plugin("printer")
	leaks = t.hub.Leaks()
	t.check(len(leaks) == 0 && info.Mailbox.Late == 1, "somebody mends the printer: its reply comes too late, and it goes on: %d leaks", len(leaks))
	return nil
}

// leakNames says what the leaks are.
func leakNames(leaks []hub.Leak) string {
	names := make([]string, 0, len(leaks))
	for _, l := range leaks {
		names = append(names, fmt.Sprintf("the %s of %q in the plugin %q, set at %s", l.Kind, l.Name, l.Plugin, path.Base(l.Site)))
	}
	return strings.Join(names, "; ")
}
