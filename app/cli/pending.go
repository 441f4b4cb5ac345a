package cli

import "errors"

var errPending = errors.New("not in this build")

type quickstart struct{}

func (*quickstart) Help() string { return "Examples:\n  tare quickstart" }

func (quickstart) Run() error { return errPending }

type tune struct{}

func (*tune) Help() string { return "Examples:\n  tare tune" }

func (tune) Run() error { return errPending }

type benchVerb struct{}

func (*benchVerb) Help() string { return "Examples:\n  tare bench" }

func (benchVerb) Run() error { return errPending }
