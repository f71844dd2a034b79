package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"

	"github.com/plugbus/plugbus/bench/compare"
	"github.com/plugbus/plugbus/bench/workloads"
)

// The exit statuses.
const (
	kept   = 0
	missed = 1
	failed = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, workloads.All(1), os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status) //nolint:forbidigo // A command ends with a status.
}

// run measures the workloads as the arguments say, and returns the exit status.
func run(ctx context.Context, all []compare.Workload, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	match := flags.String("run", "", "measure only the workloads whose names match the `regexp`")
	rounds := flags.Int("rounds", 0, "let each side do its work `n` times (default 7)")
	dir := flags.String("dir", "", "make the run's directory inside of `dir`")
	asJSON := flags.Bool("json", false, "print an array of {workload, peer, ratio, limit, ok}")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return kept
	} else if err != nil {
		return failed // flags said why
	}
	report, err := measure(ctx, all, *match, compare.Options{Rounds: *rounds, Dir: *dir}, flags.Args())
	if err == nil {
		write := report.WriteTable
		if *asJSON {
			write = report.WriteJSON
		}
		err = write(stdout)
	}
	switch {
	case err != nil:
		_, _ = fmt.Fprintln(stderr, err) // there is nowhere else to say it
		return failed
	case !report.OK():
		return missed
	}
	return kept
}

// measure checks what the flags did not, and runs the workloads.
func measure(ctx context.Context, all []compare.Workload, match string, o compare.Options, rest []string) (*compare.Report, error) {
	if len(rest) > 0 {
		return nil, fmt.Errorf("compare: unexpected arguments %q; expected only flags", rest)
	}
	var err error
	if o.Match, err = regexp.Compile(match); err != nil {
		return nil, fmt.Errorf("compare: -run: %w", err)
	}
	return compare.Run(ctx, all, o)
}
