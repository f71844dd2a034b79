package main

import (
	"strings"
	"testing"
)

// ok is a package with one test that passed and said something.
const ok = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestA"}
{"Action":"output","Package":"a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"a","Test":"TestA","Output":"    a_test.go:1: noise\n"}
{"Action":"pass","Package":"a","Test":"TestA"}
{"Action":"output","Package":"a","Output":"PASS\n"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.1s\n"}
{"Action":"pass","Package":"a"}
`

const skipped = `{"Action":"output","Package":"b","Test":"TestB","Output":"    b_test.go:1: no browser\n"}
{"Action":"skip","Package":"b","Test":"TestB"}
{"Action":"output","Package":"b","Output":"ok  \tb\t0.1s\n"}
{"Action":"pass","Package":"b"}
`

func TestRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		input, allow, want, err string
	}{
		{ok, "^$", "ok  \ta\t0.1s\n1 passed, 0 failed, 0 skipped\n", ""},

		{"", "^$", "0 passed, 0 failed, 0 skipped\n", "no test ran"},

		{
			ok + skipped, "^$",
			"ok  \ta\t0.1s\nskipped: b.TestB\n    b_test.go:1: no browser\nok  \tb\t0.1s\n1 passed, 0 failed, 1 skipped\n",
			"these were skipped, and must not be: b.TestB",
		},
		{
			ok + skipped, `^b\.`,
			"ok  \ta\t0.1s\nskipped: b.TestB\n    b_test.go:1: no browser\nok  \tb\t0.1s\n1 passed, 0 failed, 1 skipped\n",
			"",
		},

		{ // A test failed.
			ok + `{"Action":"output","Package":"c","Test":"TestC","Output":"    c_test.go:1: got 1\n"}
{"Action":"fail","Package":"c","Test":"TestC"}
{"Action":"output","Package":"c","Output":"FAIL\tc\t0.1s\n"}
{"Action":"fail","Package":"c"}
`, "^$",
			"ok  \ta\t0.1s\nfailed: c.TestC\n    c_test.go:1: got 1\nFAIL\tc\t0.1s\n1 passed, 1 failed, 0 skipped\n",
			"1 failed",
		},

		{ // A package did not build, and another crashed in the middle of a test.
			ok + `{"Action":"build-output","ImportPath":"d","Output":"d.go:1: undefined: x\n"}
{"Action":"output","Package":"d","Output":"FAIL\td [build failed]\n"}
{"Action":"fail","Package":"d"}
{"Action":"output","Package":"e","Test":"TestE","Output":"fatal error: stack overflow\n"}
{"Action":"output","Package":"e","Output":"FAIL\te\t0.1s\n"}
{"Action":"fail","Package":"e"}
go: something that is not JSON
`, "^$",
			"ok  \ta\t0.1s\nd.go:1: undefined: x\nFAIL\td [build failed]\n" +
				"did not end: e.TestE\nfatal error: stack overflow\nFAIL\te\t0.1s\n" +
				"go: something that is not JSON\n1 passed, 2 failed, 0 skipped\n",
			"2 failed",
		},
	} {
		var got strings.Builder
		message := ""
		if err := run(strings.NewReader(test.input), &got, true, test.allow); err != nil {
			message = err.Error()
		}
		if got.String() != test.want || message != test.err {
			t.Errorf("run of\n%s\nprinted\n%s\nwith error %q, want\n%s\nwith error %q",
				test.input, got.String(), message, test.want, test.err)
		}
	}
}
