// Command quickstart is a tour of plugbus over real files. Ten plugins read,
// count, report, search, ask, print, juggle, blunder and cheat; the hub holds to what it
// promises, and the tour checks that it does.
//
//	go run ./examples/quickstart [-allow-all] [files or folders]
//
// Without arguments it reads the text files of this repository. The exit status
// is 0 if everything held, 1 if something did not, and 2 if the arguments are
// wrong.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"time"

	"github.com/plugbus/plugbus/security"
)

//go:embed policy.json
var policyFile []byte

// timeLimit bounds the whole tour, which takes a second or two, and many times that
// under the race detector on a busy machine.
const timeLimit = 2 * time.Minute

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the command, and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	complain := log.New(stderr, "quickstart: ", 0)

	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		complain.Print("usage: quickstart [-allow-all] [files or folders]")
		flags.PrintDefaults()
	}
	allowAll := flags.Bool("allow-all", false, "put security.AllowAll in place of policy.json, which shows what the guards are for; the exit status is 1")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	in, err := readInput(flags.Args())
	if err != nil {
		complain.Print(err)
		return 2
	}
	policy, name := security.AllowAll(), "security.AllowAll()"
	if !*allowAll {
		name = "policy.json"
		if policy, err = security.Parse(policyFile, name); err != nil {
			complain.Print(err)
			return 1
		}
	}
	p := newPage(stdout)
	p.title("plugbus quickstart", "The input: %s. The policy: %s.", in, name)
	t, err := newTour(p, in, policy) //nolint:contextcheck // A hub lives until Close, whatever becomes of a context.
	if err != nil {
		complain.Print(err)
		return 1
	}
	held, err := t.walk(ctx)
	switch {
	case err != nil:
		complain.Print(err)
		return 1
	case !held:
		return 1
	}
	return 0
}
