package cli

import "errors"

var errPending = errors.New("not in this build")

type benchVerb struct{}

func (*benchVerb) Help() string { return "Examples:\n  tare bench" }

func (benchVerb) Run() error { return errPending }
