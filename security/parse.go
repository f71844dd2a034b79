package security

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxPolicyBytes bounds the size of a policy.
const MaxPolicyBytes = 4 << 20

// Parse reads a policy in JSON. The name of the file is for messages, and may
// be empty. The error joins a [*PolicyError] for each mistake, in the order of
// the text.
func Parse(data []byte, file string) (*Policy, error) {
	return parse(data, &source{file: file, lines: lines(data)})
}

// Load reads a policy from r as [Parse] does. The error is also that of r.
func Load(r io.Reader, file string) (*Policy, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxPolicyBytes+1))
	if err != nil {
		return nil, &PolicyError{File: file, Problem: fmt.Sprintf("the policy cannot be read: %v", err), Err: err}
	}
	return Parse(data, file)
}

// LoadFile reads a policy file as [Load] does.
func LoadFile(path string) (_ *Policy, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &PolicyError{File: path, Problem: fmt.Sprintf("the policy cannot be opened: %v", err), Err: err}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return Load(f, path)
}

// parse is the one way to a policy.
func parse(data []byte, src *source) (*Policy, error) {
	if len(data) > MaxPolicyBytes {
		return nil, &PolicyError{File: src.file, Problem: fmt.Sprintf("the policy is larger than %d bytes", MaxPolicyBytes)}
	}
	var p *Policy
	if doc := decode(data, src); doc != nil {
		p = compile(doc, src)
	}
	if err := src.err(); err != nil {
		return nil, err
	}
	return p, nil
}
