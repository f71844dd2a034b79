package plugbus_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/plugbus/plugbus"
)

// A refusal says who may not do what, and why; its fields say so to programs.
func ExampleDeniedError() {
	emit := func() error {
		return fmt.Errorf("report progress: %w", &plugbus.DeniedError{
			Plugin:     "indexer",
			Verb:       plugbus.VerbEmit,
			Object:     "index.progress",
			Reason:     plugbus.ReasonRateLimitExceeded,
			RetryAfter: 600 * time.Millisecond,
			Record:     42,
		})
	}

	err := emit()
	fmt.Println(err)
	fmt.Println("denied:", errors.Is(err, plugbus.ErrDenied))
	if denied, ok := errors.AsType[*plugbus.DeniedError](err); ok {
		fmt.Println("wait:", denied.RetryAfter)
	}

	// Output:
	// report progress: plugin "indexer" may not emit "index.progress": rate_limit_exceeded; try again in 600ms (audit record 42)
	// denied: true
	// wait: 600ms
}

// A ledger that does not balance says which figures do not add up.
func ExampleLedger_Check() {
	ledger := plugbus.Ledger{Offered: 3, Refused: 1, Accepted: 2, Handled: 1}
	fmt.Println(ledger.Check())

	ledger.Waiting++
	fmt.Println(ledger.Check())
	fmt.Println(ledger)

	// Output:
	// plugbus: the ledger does not balance: accepted 2, but ended 1 + waiting 0 + running 0 = 1
	// <nil>
	// offered 3 = refused 1 + full 0 + accepted 2; accepted = handled 1 + waiting 1
}
