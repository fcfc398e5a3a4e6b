package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

// Exit codes of a program that cannot be started, as shells have them.
const (
	exitCannotExecute = 126
	exitNotFound      = 127
)

func (a *app) runCommand() *cobra.Command {
	var consumer, directory string
	c := &cobra.Command{
		Use:   "run [--consumer NAME] -- COMMAND [ARGUMENT]...",
		Short: "Run a program with the role's AWS credentials within its reach",
		Long: `Run a program that finds the AWS credentials of the core's role, as AWS's SDKs and tools
look for them: with the variables of the container credentials endpoint, a consumer's token
and the region, and without what would win over them (access keys, profiles, AWS's own files
of configuration). No secret but the token is in its environment, and the token is good for
programs of the consumer's user on this machine alone.

The program takes this one's place: it gets its signals, and its exit code is the program's;
126 and 127 say, as in a shell, that it cannot be executed or is not found.`,
		Example: example("gatehouse run --dir ./gh -- aws sts get-caller-identity", "gatehouse run --consumer uploader -- /opt/uploader/upload --all"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.run(consumer, directory, args) },
	}
	c.Flags().StringVar(&consumer, "consumer", "", "as this consumer of tokenExchange.consumers (default: the only one whose token this user can read)")
	c.Flags().StringVar(&directory, "directory", "", "where the consumers' folders are (default: consumers in --dir, else "+config.DefaultTokenDirectory+")")
	c.Flags().SetInterspersed(false)
	return c
}

func (a *app) run(consumer, directory string, args []string) error {
	variables, err := a.consumerVariables(consumer, directory)
	if err != nil {
		return err
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		code := exitNotFound
		if errors.Is(err, fs.ErrPermission) {
			code = exitCannotExecute
		}
		return &exitError{code, err}
	}
	err = syscall.Exec(program, args, tokenexchange.Environ(os.Environ(), variables))
	return &exitError{exitCannotExecute, fmt.Errorf("%s: %w", program, err)}
}

// consumerVariables finds the variables of a consumer, or of the only one.
func (a *app) consumerVariables(consumer, directory string) ([]string, error) {
	places := []string{directory}
	if directory == "" {
		places = []string{config.DefaultTokenDirectory}
		if a.dir != "" {
			places = []string{daemon.ConsumersDir(a.dir), config.DefaultTokenDirectory}
		}
	}
	if consumer != "" {
		if err := tokenexchange.CheckConsumerName(consumer); err != nil {
			return nil, &exitError{exitUsage, err}
		}
		return variablesOf(places, consumer)
	}
	names := readableConsumers(places)
	if len(names) != 1 {
		return nil, fmt.Errorf("this user can read the tokens of %d consumers in %s%s; name one with --consumer", len(names), strings.Join(places, " and "), listed(names))
	}
	return variablesOf(places, names[0])
}

func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

func variablesOf(places []string, consumer string) (variables []string, err error) {
	for _, place := range places {
		variables, err = tokenexchange.ReadEnvironment(tokenexchange.ConsumerEnvironment(place, consumer))
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no consumer %s in %s: is it in tokenExchange.consumers, and did Gatehouse start?", consumer, strings.Join(places, " or "))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: consumer %s is another user's", err, consumer)
	}
	return variables, err
}

// readableConsumers are those whose token this user can read. A folder of consumers need not
// be readable itself: then one has to be named.
func readableConsumers(places []string) (names []string) {
	for _, place := range places {
		folders, err := os.ReadDir(place)
		if err != nil {
			continue
		}
		for _, folder := range folders {
			if _, err := tokenexchange.ReadEnvironment(tokenexchange.ConsumerEnvironment(place, folder.Name())); err == nil {
				names = append(names, folder.Name())
			}
		}
	}
	return names
}
