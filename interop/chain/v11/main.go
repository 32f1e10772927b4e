// Command simd is a chain for tests with ibc-go v11.
package main

import (
	"os"
	"time"

	"simd"

	"cosmossdk.io/log/v2"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/server"
	svr "github.com/cosmos/cosmos-sdk/server/types"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	clienttypes "github.com/cosmos/ibc-go/v11/modules/core/02-client/types"
	channeltypes "github.com/cosmos/ibc-go/v11/modules/core/04-channel/types"
	ibcante "github.com/cosmos/ibc-go/v11/modules/core/ante"
	"github.com/cosmos/ibc-go/v11/modules/core/exported"
	"github.com/cosmos/ibc-go/v11/testing/simapp"
)

func main() {
	simd.Main(simapp.NewSimApp(log.NewNopLogger(), dbm.NewMemDB(), nil, true,
		simtestutil.NewAppOptionsWithFlagHome(os.TempDir())), create)
}

func create(logger log.Logger, db dbm.DB, options svr.AppOptions) svr.Application {
	app := simapp.NewSimApp(logger, db, nil, false, options, server.DefaultBaseappOptions(options)...)
	app.SetAnteHandler(simd.TakingFees(app.AccountKeeper, app.BankKeeper, app.TxConfig(),
		ibcante.NewRedundantRelayDecorator(app.IBCKeeper)))
	echo(app)
	if err := app.LoadLatestVersion(); err != nil {
		panic(err)
	}
	return app
}

// echo makes the port "mock" send back whatever it receives.
func echo(app *simapp.SimApp) {
	mock := app.IBCMockModule.IBCApp
	mock.OnChanOpenTry = func(_ sdk.Context, _ channeltypes.Order, _ []string, _, _ string,
		_ channeltypes.Counterparty, version string,
	) (string, error) {
		return version, nil
	}
	mock.OnRecvPacket = func(ctx sdk.Context, _ string, packet channeltypes.Packet, _ sdk.AccAddress,
	) exported.Acknowledgement {
		timeout := uint64(ctx.BlockTime().Add(time.Hour).UnixNano())
		_, err := app.IBCKeeper.ChannelKeeper.SendPacket(ctx, packet.DestinationPort,
			packet.DestinationChannel, clienttypes.ZeroHeight(), timeout, packet.Data)
		if err != nil {
			return channeltypes.NewErrorAcknowledgement(err)
		}
		return channeltypes.NewResultAcknowledgement([]byte{1})
	}
}
