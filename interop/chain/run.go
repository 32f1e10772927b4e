// Package simd is a chain for tests: the test application of a version of ibc-go, run by one
// validator.
//
// It differs from ibc-go's own in two ways. Its port "mock" sends the data of every packet back as
// a packet of its own, and takes any version. And it takes fees, as real chains do.
//
//	simd home --home DIR --chain-id ID --rpc 127.0.0.1:26657   makes a chain
//	simd start --home DIR                                     runs it
package simd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/server"
	svrcmd "github.com/cosmos/cosmos-sdk/server/cmd"
	svrcfg "github.com/cosmos/cosmos-sdk/server/config"
	svr "github.com/cosmos/cosmos-sdk/server/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/spf13/cobra"
)

const untilStdinEnds = "until-stdin-ends"

// App is what the test applications of all versions have.
type App interface {
	AppCodec() codec.Codec
	DefaultGenesis() map[string]json.RawMessage
	InterfaceRegistry() codectypes.InterfaceRegistry
	LegacyAmino() *codec.LegacyAmino
	TxConfig() client.TxConfig
}

// Main is the program. Of the application, which is not run, it takes what is encoded how. Nodes are
// configured as all versions can be, and then adjusted.
func Main(app App, create svr.AppCreator, adjust ...func(*cmtcfg.Config)) {
	home, err := os.UserHomeDir()
	if err == nil {
		home += "/.simapp"
		root := &cobra.Command{Use: "simd", SilenceErrors: true, SilenceUsage: true}
		root.AddCommand(homeCommand(app, adjust), startCommand(app, create, home))
		err = svrcmd.Execute(root, "", home)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func startCommand(app App, create svr.AppCreator, home string) *cobra.Command {
	context := client.Context{}.
		WithCodec(app.AppCodec()).
		WithInterfaceRegistry(app.InterfaceRegistry()).
		WithLegacyAmino(app.LegacyAmino()).
		WithTxConfig(app.TxConfig()).
		WithHomeDir(home).
		WithViper("")
	start := server.StartCmd(create, home)
	start.Flags().Bool(untilStdinEnds, false, "End when the standard input does, with whoever started this")
	start.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if wanted, err := cmd.Flags().GetBool(untilStdinEnds); err != nil {
			return err
		} else if wanted {
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				os.Exit(1)
			}()
		}
		context, err := client.ReadPersistentCommandFlags(context, cmd.Flags())
		if err != nil {
			return err
		}
		if err := client.SetCmdClientContextHandler(context, cmd); err != nil {
			return err
		}
		return server.InterceptConfigsPreRunHandler(cmd, svrcfg.DefaultConfigTemplate,
			svrcfg.DefaultConfig(), cmtcfg.DefaultConfig())
	}
	return start
}

// TakingFees is the chain of checks that chains have, where those of ibc-go's applications leave
// out the fees from v10 on. Its last one is ibc-go's.
func TakingFees(accounts ante.AccountKeeper, bank authtypes.BankKeeper, config client.TxConfig,
	redundant sdk.AnteDecorator,
) sdk.AnteHandler {
	return sdk.ChainAnteDecorators(
		ante.NewSetUpContextDecorator(),
		ante.NewExtensionOptionsDecorator(nil),
		ante.NewValidateBasicDecorator(),
		ante.NewTxTimeoutHeightDecorator(),
		ante.NewValidateMemoDecorator(accounts),
		ante.NewConsumeGasForTxSizeDecorator(accounts),
		ante.NewDeductFeeDecorator(accounts, bank, nil, nil),
		ante.NewSetPubKeyDecorator(accounts),
		ante.NewValidateSigCountDecorator(accounts),
		ante.NewSigGasConsumeDecorator(accounts, ante.DefaultSigVerificationGasConsumer),
		ante.NewSigVerificationDecorator(accounts, config.SignModeHandler()),
		ante.NewIncrementSequenceDecorator(accounts),
		redundant,
	)
}
