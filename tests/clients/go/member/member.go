// Package member is what a member of a group tells the test, in the lines of member.py.
package member

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are the test's.
type Options struct {
	Bootstrap   string
	Topic       string
	Group       string
	Protocol    string
	Cooperative bool
	Instance    *string
	SessionMs   int64 `json:"session_timeout_ms"`
}

// SessionTimeout is how long the group waits for a member that is silent.
func (o Options) SessionTimeout() time.Duration {
	return time.Duration(o.SessionMs) * time.Millisecond
}

// Read takes the options from the command line: a verb, of which there is one, and JSON.
func Read() Options {
	var o Options
	if err := json.Unmarshal([]byte(os.Args[2]), &o); err != nil {
		Fail(err)
	}
	return o
}

// WhenTold calls leave at the end of standard input, which asks the member to leave.
func WhenTold(leave func()) {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		leave()
	}()
}

// Fail ends the program.
func Fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Got is a record that it was handed.
func Got(partition int32, offset int64, value []byte) {
	say(fmt.Sprintf("got %d %d %s", partition, offset, value))
}

// Committed is an offset that the broker has confirmed.
func Committed(partition int32, offset int64) {
	say(fmt.Sprintf("committed %d %d", partition, offset))
}

var (
	lock  sync.Mutex
	owned []int32
)

// Assigned are partitions that come to those it owns.
func Assigned(partitions []int32) {
	change(func() { owned = append(owned, partitions...) })
}

// Revoked are partitions that it must give up, or has lost.
func Revoked(partitions []int32) {
	change(func() {
		owned = slices.DeleteFunc(owned, func(it int32) bool { return slices.Contains(partitions, it) })
	})
}

func change(by func()) {
	lock.Lock()
	defer lock.Unlock()
	by()
	slices.Sort(owned)
	owned = slices.Compact(owned)
	var line strings.Builder
	line.WriteString("owns")
	for _, partition := range owned {
		fmt.Fprintf(&line, " %d", partition)
	}
	say(line.String())
}

// One write for a line, so that lines of several goroutines stay whole.
func say(line string) {
	os.Stdout.WriteString(line + "\n")
}
